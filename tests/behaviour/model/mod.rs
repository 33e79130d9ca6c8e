//! The protocol as a model: explored exhaustively, walked at random beside the real database, and every pair of operations at
//! once on two connections. `docs/model.md` explains it.

mod exploring;
mod pairs;
mod protocol;
mod replay;
mod world;
