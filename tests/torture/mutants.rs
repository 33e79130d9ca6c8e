//! Deliberate faults: each takes something away from the installation, so that the checker must find something.

use longhaul::{Client, Error};

/// A fault, and the check that must see it.
pub struct Mutant {
    pub name: &'static str,
    /// Function, what stands there, and what is put there instead.
    function: &'static str,
    from: &'static str,
    to: &'static str,
    /// The net under it, which would mend the fault within seconds: taken away as well.
    also: Option<(&'static str, &'static str, &'static str)>,
    /// The check that is there to see it.
    pub seen_by: &'static str,
}

pub const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "no-fencing",
        function: "close_leases",
        from: "x.seq = i.seq and x.attempt = i.attempt and x.worker_id = p_worker",
        to: "x.seq = i.seq",
        also: None,
        seen_by: "the stored output is the completing attempt's",
    },
    Mutant {
        name: "claim-leaves-the-task",
        function: "claim_lane",
        from: "delete from task t\n    where t.ctid",
        to: "update task t set attempt = t.attempt\n    where not exists (select from lease x where (x.run_id, x.seq) = (t.run_id, t.seq)) and t.ctid",
        also: None,
        seen_by: "each attempt was begun at most once, and was claimed",
    },
    Mutant {
        name: "forgets-successors",
        function: "unblock_successors",
        from: "coalesce(b.blockers, f.predecessors) - c.ended as blockers",
        to: "coalesce(b.blockers, f.predecessors) - case when random() < 0.02 then 0 else c.ended end as blockers",
        also: None,
        seen_by: "every run ended in time",
    },
    Mutant {
        name: "successors-too-early",
        function: "unblock_successors",
        from: "from waiting w where w.blockers = 0;",
        to: "from waiting w where w.blockers <= 1;",
        also: None,
        seen_by: "a step begins after its predecessors have ended",
    },
    Mutant {
        name: "same-attempt-again",
        function: "claim_lane",
        from: "t.attempt + 1",
        to: "greatest(t.attempt, 1)",
        also: None,
        seen_by: "each attempt was begun at most once, and was claimed",
    },
    Mutant {
        name: "leases-expire-early",
        function: "expire_leases",
        from: "x.expires_at <= v_now",
        to: "x.heartbeat_at <= v_now - interval '150 milliseconds'",
        also: None,
        seen_by: "only leases whose heartbeat was overdue expired",
    },
    Mutant {
        name: "pause-forgets-ready-steps",
        function: "hold_steps",
        from: "delete from task t where t.run_id = p_id returning t",
        to: "delete from task t where t.run_id = p_id and false returning t",
        also: None,
        seen_by: "nothing of a paused run is claimed",
    },
    Mutant {
        name: "stop-forgets-running-steps",
        function: "cancel_steps",
        from: "delete from lease l where l.run_id = any (p_run_ids) returning l",
        to: "delete from lease l where l.run_id = any (p_run_ids) and false returning l",
        also: None,
        seen_by: "a live step is in exactly one room, and at the end none is",
    },
    Mutant {
        name: "keys-let-everybody-in",
        function: "let_in",
        from: "<= r.most - r.used as enters",
        to: ">= 0 as enters",
        also: None,
        seen_by: "limits of keys and queues held",
    },
    Mutant {
        name: "queue-limit-ignored",
        function: "claimable",
        from: "v_left := least(v_left, v_queue.max_running - v_queue.running);",
        to: "v_left := least(v_left, 100);",
        also: None,
        seen_by: "limits of keys and queues held",
    },
    Mutant {
        name: "signals-stay",
        function: "consume",
        from: "set consumed_at = case when p_signal.scope = 'one' then clock() end, consumed_by",
        to: "set consumed_by",
        also: None,
        seen_by: "a signal was consumed at most once, and none was lost",
    },
    Mutant {
        name: "ticks-without-a-key",
        function: "fire_tick",
        from: "if not found or v_outcome in ('missed', 'skipped') then",
        to: "if v_outcome not in ('missed', 'skipped') then
    perform start_runs(v_schedule.tenant, v_schedule.flow, v_schedule.version, array[new_run_id()], array[v_schedule.input],
      p_metadata => array[jsonb_build_object('schedule', v_schedule.name, 'tick', p_tick)]);
  else",
        also: None,
        seen_by: "a tick started one run",
    },
    Mutant {
        name: "tenants-share-queues",
        function: "claim",
        from: "q.tenant = v_worker.tenant and q.name = a.name",
        to: "q.name = a.name",
        also: None,
        seen_by: "workers do their own tenant's steps only",
    },
    Mutant {
        name: "floor-without-horizon",
        function: "horizon",
        from: "return (select m.at from horizon_mark m where m.xid < v_oldest order by m.at desc limit 1);",
        to: "return clock() + interval '2 seconds';",
        also: Some(("check_floors", "where x.position < p.position", "where false")),
        seen_by: "every run ended in time",
    },
    Mutant {
        name: "released-steps-vanish",
        function: "settle_attempts",
        from: "where n.fire_at <= v_now\n      order by n.run_id, n.seq",
        to: "where n.fire_at <= v_now and random() < 0.8\n      order by n.run_id, n.seq",
        also: None,
        seen_by: "a live step is in exactly one room, and at the end none is",
    },
    Mutant {
        name: "retention-takes-everything",
        function: "retention_page",
        from: "continue when v_name is null;",
        to: "",
        also: None,
        seen_by: "no accepted run is lost, and each ended as it had to",
    },
    Mutant {
        name: "outcome-of-the-wrong-attempt",
        function: "settle_attempts",
        from: "e.worker_id, e.seq, e.attempt, e.outcome",
        to: "e.worker_id, e.seq, e.attempt + 1, e.outcome",
        also: None,
        seen_by: "each attempt has one outcome",
    },
    Mutant {
        name: "tasks-stay-behind",
        function: "claim_lane",
        from: "delete from task t\n    where t.ctid",
        to: "update task t set attempt = t.attempt + 1\n    where not exists (select from lease x where (x.run_id, x.seq) = (t.run_id, t.seq)) and t.ctid",
        also: None,
        seen_by: "a completed step is not begun again",
    },
    Mutant {
        name: "stopped-steps-stay-ready",
        function: "cancel_steps",
        from: "delete from task t where t.run_id = any (p_run_ids) returning",
        to: "delete from task t where t.run_id = any (p_run_ids) and false returning",
        also: None,
        seen_by: "nothing of a stopped run is claimed after it has ended",
    },
    Mutant {
        name: "sessions-have-clocks-of-their-own",
        function: "clock",
        from: "clock_timestamp()",
        to: "clock_timestamp() + (pg_backend_pid() % 2) * interval '1 hour'",
        also: None,
        seen_by: "no clock but the database's was asked",
    },
    Mutant {
        name: "checkpoints-forgotten",
        function: "save_checkpoints",
        from: "where h.run_id is not null\n  order by",
        to: "where h.run_id is not null and random() < 0.5\n  order by",
        also: None,
        seen_by: "a checkpoint is computed until it is saved, and then no more",
    },
    Mutant {
        name: "locks-expire-early",
        function: "acquire_lock",
        from: "v_lock.expires_at > v_now then",
        to: "v_lock.expires_at > v_now + interval '200 milliseconds' then",
        also: None,
        seen_by: "one holder at a time has a lock, and tokens only grow",
    },
    Mutant {
        name: "undone-from-the-first",
        function: "begin_compensation",
        from: "order by s.ended_at desc, s.seq desc",
        to: "order by s.ended_at, s.seq",
        also: None,
        seen_by: "what a failed saga had done was undone, once, from the last to the first",
    },
    Mutant {
        name: "approval-is-a-formality",
        function: "ask_approval",
        from: "perform ask(p_run, p_step, 'approval', p_flow_step.settings -> 'approval');\n  return true",
        to: "return false",
        also: None,
        seen_by: "nothing that needs approval begins without it",
    },
    Mutant {
        name: "budget-without-bottom",
        function: "spend",
        from: " where b.used + excluded.used <= v_limit",
        to: "",
        also: None,
        seen_by: "a budget is not overdrawn, and each step is paid once",
    },
    Mutant {
        name: "writer-drops-values",
        function: "save_progress",
        from: "i(run_id, seq, key, value, attempt)\n  order by",
        to: "i(run_id, seq, key, value, attempt)\n  where random() < 0.7\n  order by",
        also: None,
        seen_by: "the last progress is stored",
    },
];

impl Mutant {
    /// The one of a name.
    pub fn named(name: &str) -> Option<&'static Self> {
        MUTANTS.iter().find(|mutant| mutant.name == name)
    }

    /// Breaks the installation.
    pub async fn apply(&self, client: &Client) -> Result<(), Error> {
        let broken = self.broken(client).await?;
        client.database().connection().await?.batch_execute(&broken).await?;
        Ok(())
    }

    /// The functions with the fault in them. Panics when what the fault replaces does not stand there.
    pub async fn broken(&self, client: &Client) -> Result<String, Error> {
        let mut broken = String::new();
        for (function, from, to) in std::iter::once((self.function, self.from, self.to)).chain(self.also) {
            let connection = client.database().connection().await?;
            let definitions = connection
                .query(
                    "select pg_get_functiondef(p.oid) from pg_proc p where p.pronamespace = 'longhaul'::regnamespace and p.proname = $1",
                    &[&function],
                )
                .await?;
            let definitions: Vec<String> = definitions.iter().map(|row| row.get(0)).collect();
            let found: Vec<_> = definitions.iter().filter(|d| d.contains(from)).collect();
            assert_eq!(found.len(), 1, "the mutant {} changes one function named {function}", self.name);
            broken += &found[0].replace(from, to);
            broken += ";\n";
        }
        Ok(broken)
    }
}
