//! What can only be seen while it happens: limits and pauses, looked at again and again, each time in one snapshot.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use chrono::{DateTime, Utc};
use longhaul::{Client, Error};
use uuid::Uuid;

use crate::load::LIVE_RUNS;

/// What was seen.
#[derive(Debug, Default)]
pub struct Seen {
    pub looks: usize,
    pub over_limits: BTreeSet<String>,
    pub claimed_while_paused: BTreeSet<String>,
    /// Since when each run is known to be paused, and its revision then.
    paused: HashMap<Uuid, (i32, DateTime<Utc>)>,
}

/// Looks until it is aborted.
pub async fn watch(client: Client, seen: Arc<Mutex<Seen>>) {
    loop {
        // Connections are cut all the time.
        let _ = look(&client, &seen).await;
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

async fn look(client: &Client, seen: &Mutex<Seen>) -> Result<(), Error> {
    let connection = client.database().connection().await?;
    let keys = connection
        .query(
            "select g.name || ' ' || g.key, g.most, count(*)
             from (select run_id, seq from longhaul.task union all select run_id, seq from longhaul.lease) x
             join longhaul.own_step s on s.run_id = x.run_id and s.seq = x.seq
             join longhaul.gate g on g.id = s.gate_id
             group by g.id having count(*) > g.most",
            &[],
        )
        .await?;
    let narrow = connection
        .query_one(
            "select q.max_running, (select count(*) from longhaul.lease l join longhaul.lane n on n.id = l.lane_id where n.queue_id = q.id)
             from longhaul.queue q where q.name = 'narrow' and q.tenant = 'default'",
            &[],
        )
        .await?;
    let (most, narrow): (i32, i64) = (narrow.get(0), narrow.get(1));
    let paused = connection
        .query(
            &format!(
                "select r.id, r.revision, longhaul.clock(), array_agg(l.claimed_at) filter (where l.run_id is not null)
                 from ({LIVE_RUNS}) x
                 join longhaul.run r on r.id = x.run_id and r.state = 'paused'
                 left join longhaul.lease l on l.run_id = r.id
                 group by r.id, r.revision"
            ),
            &[],
        )
        .await?;
    let mut seen = seen.lock().expect("no panics here");
    seen.looks += 1;
    for row in keys {
        let (key, most, steps): (String, i32, i64) = (row.get(0), row.get(1), row.get(2));
        seen.over_limits
            .insert(format!("{steps} steps of the key {key}, which allows {most}, were ready or running at once"));
    }
    if narrow > i64::from(most) {
        seen.over_limits.insert(format!("{narrow} steps of the queue narrow, which allows {most}, ran at once"));
    }
    let known = std::mem::take(&mut seen.paused);
    for row in paused {
        let (run, revision, now): (Uuid, i32, DateTime<Utc>) = (row.get(0), row.get(1), row.get(2));
        let since = known.get(&run).filter(|(before, _)| *before == revision).map_or(now, |(_, since)| *since);
        let claims: Vec<DateTime<Utc>> = row.get::<_, Option<_>>(3).unwrap_or_default();
        if claims.iter().any(|claimed| *claimed > since) {
            seen.claimed_while_paused
                .insert(format!("run {run}: a step was claimed after it was seen paused at {since}"));
        }
        seen.paused.insert(run, (revision, since));
    }
    Ok(())
}
