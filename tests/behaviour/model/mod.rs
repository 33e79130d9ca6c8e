//! The protocol as a model: explored exhaustively, walked at random beside the real database, and every pair of operations at
//! once on two connections. `docs/model.md` explains it.

mod effects;
mod exploring;
mod moves;
mod pairs;
mod properties;
mod protocol;
mod replay;
mod world;
