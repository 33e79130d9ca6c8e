//! Behaviour of Longhaul through its public API, on a real PostgreSQL server: a private one, or the one that `DATABASE_URL`
//! names. Each test has a database of its own and they run in parallel.

mod harness;
#[path = "../network/mod.rs"]
mod network;

mod belonging;
mod blocking;
mod blocking_handlers;
mod chores;
mod connecting;
mod cookbook;
mod cost;
mod explaining;
mod extremes;
mod failing;
mod fencing;
mod floors;
mod history_costs;
mod installing;
mod jobs;
mod killing;
mod limits;
mod lost_connections;
mod model;
mod named_limits;
mod payloads;
mod plans;
mod poison;
mod protocol;
mod running;
mod seams;
mod shutting_down;
mod silence;
mod start_options;
mod starting;
mod stopping;
mod tls;
mod unattended;
mod upgrading;
mod views;
mod waiting;
mod whole_system;
mod workers;
mod workflows;

/// Not a test: the entry of the worker processes that tests start. Does nothing unless one of them did.
#[test]
fn child_process() {
    harness::child_main();
}
