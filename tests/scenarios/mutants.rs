//! Deliberate faults: each takes back one thing that keeps features from harming each other. A scenario of the
//! corpus must find it.

use crate::server::Server;

/// A fault, and what it leads to.
pub struct Mutant {
    pub name: &'static str,
    /// Of the corpus, the one that must find it.
    pub scenario: &'static str,
    /// Function, what stands there, and what is put there instead.
    edits: &'static [(&'static str, &'static str, &'static str)],
}

pub const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "never-is-no-time",
        scenario: "created-run-and-a-backoff",
        edits: &[
            (
                "task_position",
                "case p_time when 'infinity' then 9223372036854775807 when '-infinity' then -9223372036854775808",
                "case when false then 0",
            ),
            ("first_position", " and t.fire_at < 'infinity'", ""),
            ("first_position", " and w.due_at < 'infinity'", ""),
        ],
    },
    Mutant {
        name: "floors-are-proofs",
        scenario: "sleep-that-is-waited-for-again",
        edits: &[
            ("note_due", "if p_at <= clock() then", "if false then"),
            ("check_floors", "where x.position < p.position", "where x.position < p.position and f.line > 0"),
        ],
    },
    Mutant {
        name: "clocks-only-go-forward",
        scenario: "clock-stepped-back-by-an-hour",
        edits: &[
            (
                "run_chore",
                "where c.next_at <= v_now or c.next_at > v_now",
                "where c.next_at <= v_now or false and c.next_at > v_now",
            ),
            ("mark_horizon", "perform clock_stepped_back();", ""),
        ],
    },
    Mutant {
        name: "bad-data-are-everybodys",
        scenario: "later-item-with-bad-data",
        edits: &[("bad_data", "left(p_sqlstate, 2) in ('22', '54', '0A', '23') or p_sqlstate = '42704'", "false")],
    },
    Mutant {
        name: "everybody-sees-the-present",
        scenario: "topic-signal-of-an-old-snapshot",
        edits: &[
            ("sees_the_present", "in ('read committed', 'read uncommitted')", "is not null"),
            ("touch_run", "where r.id = p_run_id", "where r.id = p_run_id and false"),
        ],
    },
    Mutant {
        name: "answers-need-a-waiter",
        scenario: "child-deleted-before-its-parent-waits-again",
        edits: &[
            ("child_ended", "where c.run_id = v_child.parent_id and c.seq", "where false and c.seq"),
            ("is_needed", "or p_parent_id is not null", "or false and p_parent_id is not null"),
        ],
    },
    Mutant {
        name: "children-outlive-their-parents",
        scenario: "stop-of-a-parent-that-works",
        edits: &[("tell_children", "perform tell_child(c.id) from unnest(p_children[1:100]) c(id);", "perform 1;")],
    },
    Mutant {
        name: "lost-questions-pause-on",
        scenario: "question-that-loses-a-race",
        edits: &[("drop_waits", "if v_asked then", "if false then")],
    },
    Mutant {
        name: "what-was-undone-is-done",
        scenario: "fork-of-an-undone-run",
        edits: &[("fork_run", "if v_run.compensating then", "if false then")],
    },
    Mutant {
        name: "forks-take-any-id",
        scenario: "fork-under-an-id-ahead",
        edits: &[("fork_run", "perform checked_run_id(v_new);", "")],
    },
    Mutant {
        name: "forks-of-strangers",
        scenario: "fork-under-the-id-of-another",
        edits: &[("fork_run", "if v_known.forked_from = p_id and v_known.tenant = p_tenant then", "if true then")],
    },
    Mutant {
        name: "one-failure-is-all-of-them",
        scenario: "failure-reported-once",
        edits: &[
            (
                "match_signal",
                "and (not p_signal.failed or p_signal.consumed_by is null or w.since <= p_signal.sent_at)",
                "",
            ),
            ("match_topic", "if v_signal.failed and v_one > 0 and not v_busy and v_met < 500 then", "if false then"),
        ],
    },
    Mutant {
        name: "callers-hold-up-workers",
        scenario: "worker-beside-open-transactions",
        edits: &[("lock_runs_or_skip", "if not p_skip then", "if true then")],
    },
    Mutant {
        name: "callers-hold-up-the-lost",
        scenario: "leases-beside-open-transactions",
        edits: &[("free_leases", " for no key update skip locked", " for no key update")],
    },
    Mutant {
        name: "callers-hold-up-deadlines",
        scenario: "deadline-beside-open-transactions",
        edits: &[(
            "end_overdue_runs",
            "continue when not lock_if_free(v_id) and exists (select from run r where r.id = v_id);",
            "perform lock_runs(array[v_id]);",
        )],
    },
    Mutant {
        name: "callers-hold-up-keys",
        scenario: "open-start-with-a-key",
        edits: &[(
            "place_queued",
            "begin\n  with mine as",
            "begin\n  perform pg_advisory_xact_lock(4711);\n  with mine as",
        )],
    },
    Mutant {
        name: "callers-hold-up-turns",
        scenario: "open-start-with-fair-turns",
        edits: &[(
            "next_turn",
            "if pg_try_advisory_xact_lock(",
            "if pg_advisory_xact_lock_shared(4712) is not null or pg_try_advisory_xact_lock(",
        )],
    },
    Mutant {
        name: "broadcasts-wait",
        scenario: "broadcast-beside-open-transactions",
        edits: &[(
            "broadcast_signal",
            "if lock_if_free(v_id) then",
            "perform lock_runs(array[v_id]);\n    if true then",
        )],
    },
    Mutant {
        name: "the-end-before-the-undoing",
        scenario: "failures-that-go-on-beside-one-that-does-not",
        edits: &[("count_off", " and coalesce(r.compensating, false) = e.undoing", "")],
    },
    Mutant {
        name: "children-begin-anew",
        scenario: "retry-of-a-child-and-its-parent",
        edits: &[
            (
                "take_up_child",
                "if p_child.id is null or p_child.state",
                "if true then return null; end if;\n  if p_child.id is null or p_child.state",
            ),
            ("parent_to_retry", "if p_run.parent_path is not null then", "if false then"),
        ],
    },
    Mutant {
        name: "errors-are-objects",
        scenario: "error-that-is-no-object",
        edits: &[("checked_error", "p_error is null or jsonb_typeof(p_error) = 'object'", "true")],
    },
    Mutant {
        name: "answered-once-more",
        scenario: "two-interrupts-at-once",
        edits: &[(
            "resume_run",
            "continue when not exists (select from wait w where w.run_id = p_id and w.seq = v_wait.seq and w.path = v_wait.path);",
            "",
        )],
    },
    Mutant {
        name: "backoffs-without-end",
        scenario: "backoff-of-ages",
        edits: &[
            ("duration_ms", "if v_ms > 864000000000 then", "if false then"),
            ("backoff_ms", "least(864000000000, p_step.cap_ms", "least(p_step.cap_ms"),
            ("settle_attempts", "least(864000000000, greatest(0,", "greatest(0, greatest(0,"),
        ],
    },
    Mutant {
        name: "kept-signals-are-overlooked",
        scenario: "many-signals-sent-before",
        edits: &[("begin_signal_wait", "if v_signal.id is not null then", "if false then")],
    },
    Mutant {
        name: "notices-spin",
        scenario: "notice-for-a-busy-run",
        edits: &[("deliver_these", "due_at = clock() + least(", "due_at = n.due_at + 0 * least(")],
    },
    Mutant {
        name: "the-undoing-waits-for-an-answer",
        scenario: "deadline-of-a-run-that-asks",
        edits: &[
            ("begin_compensation", "case when r.paused_for = 'question'", "case when false"),
            ("begin_compensation", "nullif(r.paused_for, 'question')", "r.paused_for"),
        ],
    },
    Mutant {
        name: "the-past-has-partitions",
        scenario: "partitions-of-the-past",
        edits: &[("make_partitions_ahead", "if v_to < clock_timestamp() - interval '1 day' then", "if false then")],
    },
    Mutant {
        name: "timeouts-count-from-the-creation",
        scenario: "timeout-of-a-run-created-first",
        edits: &[("start_pending_run", "perform set_deadline(p_id, v_run.flow_id, v_now);", "")],
    },
    Mutant {
        name: "keys-have-two-runs",
        scenario: "retry-beside-a-second-run-of-its-key",
        edits: &[("retry_steps", "if v_other is not null then", "if false then")],
    },
    Mutant {
        name: "tokens-begin-anew",
        scenario: "lock-taken-again",
        edits: &[("acquire_lock", "set token = default,", "set token = 1,")],
    },
    Mutant {
        name: "partitions-have-one-width",
        scenario: "partitions-of-another-width",
        edits: &[("partitions_of", "where b.bounds is not null", "where false")],
    },
];

impl Mutant {
    /// The functions with the fault in them. Panics when what the fault replaces does not stand there.
    pub async fn broken(&self, server: &Server) -> Vec<String> {
        let mut broken: Vec<(&str, String)> = Vec::new();
        for (function, from, to) in self.edits {
            let place = match broken.iter().position(|(name, _)| name == function) {
                Some(place) => place,
                None => {
                    broken.push((function, definition(server, function, from).await));
                    broken.len() - 1
                }
            };
            let text = &broken[place].1;
            assert!(
                text.contains(from),
                "the mutant {} changes the function {function}, where {from:?} stands",
                self.name
            );
            broken[place].1 = text.replace(from, to);
        }
        broken.into_iter().map(|(_, text)| text).collect()
    }
}

/// The definition of the function of a name that holds a text.
async fn definition(server: &Server, function: &str, with: &str) -> String {
    let sql = format!(
        "select pg_get_functiondef(p.oid) from pg_proc p where p.pronamespace = 'longhaul'::regnamespace and p.proname = '{function}'"
    );
    let all = server.admin(&sql).await.into_iter().filter_map(|row| row[0].clone());
    let found: Vec<String> = all.filter(|text| text.contains(with)).collect();
    assert_eq!(found.len(), 1, "one function named {function} holds {with:?}");
    found.into_iter().next().unwrap_or_default()
}
