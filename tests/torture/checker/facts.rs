//! What is there at the end: the database's rows, and the handlers' lines.

use std::{
    collections::{HashMap, HashSet},
    error::Error,
    path::Path,
};

use longhaul::connect::Connection;
use uuid::Uuid;

use crate::{
    load::Asked,
    record::{self, Line},
};

/// A run as the database has it.
pub struct Run {
    pub flow: String,
    pub state: String,
    pub child: bool,
    /// Somebody answered a question of its steps with `reject`.
    pub rejected: bool,
}

/// A step as the database has it.
pub struct Step {
    pub run: Uuid,
    pub seq: i32,
    pub outcome: Option<String>,
    pub attempt: Option<i32>,
    pub made_by: Option<i32>,
    /// Done by a worker, and not by the database itself.
    pub handled: bool,
    pub predecessors: Vec<i32>,
}

/// A step, by its run and number.
pub type Key = (Uuid, i32);

pub struct Facts {
    pub lines: Vec<Line>,
    pub runs: HashMap<Uuid, Run>,
    pub steps: Vec<Step>,
    /// Claims that the database knows: those that completed, and those whose attempts ended otherwise.
    pub claims: HashSet<(Uuid, i32, i32)>,
}

impl Facts {
    pub async fn gather(connection: &Connection, records: &Path, asked: &Asked) -> Result<Self, Box<dyn Error>> {
        let mut lines = record::read_all(records)?;
        let runs = runs(connection).await?;
        // Retention has taken the brief runs; nobody was promised that they stay.
        let accepted: HashSet<&Uuid> = asked.accepted.iter().collect();
        lines.retain(|line| runs.contains_key(&line.run) || accepted.contains(&line.run));
        Ok(Self { lines, runs, steps: steps(connection).await?, claims: claims(connection).await? })
    }

    pub fn steps_by_key(&self) -> HashMap<Key, &Step> {
        self.steps.iter().map(|step| ((step.run, step.seq), step)).collect()
    }
}

async fn runs(connection: &Connection) -> Result<HashMap<Uuid, Run>, longhaul::Error> {
    let sql = "
        select r.id, f.name, r.state::text, r.parent_id is not null,
               exists (select from longhaul.checkpoint c where c.run_id = r.id and c.kind = 'decision' and c.value ->> 'choice' = 'reject')
        from longhaul.run r join longhaul.flow f on f.id = r.flow_id";
    let run = |row: &tokio_postgres::Row| Run {
        flow: row.get(1),
        state: row.get(2),
        child: row.get(3),
        rejected: row.get(4),
    };
    Ok(connection.query(sql, &[]).await?.iter().map(|row| (row.get(0), run(row))).collect())
}

async fn steps(connection: &Connection) -> Result<Vec<Step>, longhaul::Error> {
    let sql = "
        select s.run_id, s.seq, s.outcome::text, s.attempt, (s.output ->> 'token')::int,
               f.kind = 'handler' and (f.each is null or s.def is not null),
               array(select p.seq from longhaul.flow_step p
                     where p.flow_id = r.flow_id and s.seq = any (p.successors) and p.kind = 'handler' and p.each is null)
        from longhaul.step s join longhaul.run r on r.id = s.run_id
        join longhaul.flow_step f on f.flow_id = r.flow_id and f.seq = coalesce(s.def, s.seq)";
    let step = |row: &tokio_postgres::Row| Step {
        run: row.get(0),
        seq: row.get(1),
        outcome: row.get(2),
        attempt: row.get(3),
        made_by: row.get(4),
        handled: row.get(5),
        predecessors: row.get(6),
    };
    Ok(connection.query(sql, &[]).await?.iter().map(step).collect())
}

async fn claims(connection: &Connection) -> Result<HashSet<(Uuid, i32, i32)>, longhaul::Error> {
    let sql = "select run_id, seq, attempt from pg_temp.claims where attempt is not null";
    Ok(connection.query(sql, &[]).await?.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect())
}
