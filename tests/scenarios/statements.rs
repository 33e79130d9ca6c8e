//! The statements of acts.

use serde_json::Value;
use uuid::Uuid;

use crate::{
    caller::Call,
    scenario::{Act, Into},
    worker::quoted,
};

fn json(value: &Value) -> String {
    format!("{}::jsonb", quoted(&value.to_string()))
}

/// What a caller sends; none for acts that are not a caller's.
pub fn call(act: &Act, ids: &[Uuid]) -> Option<(usize, Call)> {
    let id = |run: &usize| format!("'{}'", ids[run % ids.len()]);
    let operation =
        |name: &'static str, run: &usize| (name, format!("select longhaul.{name}('default', {})", id(run)), Some(*run));
    let (by, (name, sql, run)) = match act {
        Act::Start { by, run, flow, input, delay_ms } => {
            let when = match delay_ms {
                Some(ms) if *ms < 0 => format!(", p_start_at => longhaul.clock() + {ms} * interval '1 ms'"),
                Some(ms) => format!(", p_delay => {ms} * interval '1 ms'"),
                None => String::new(),
            };
            let sql =
                format!("select longhaul.start_run({}, {}, p_id => {}{when})", quoted(flow), json(input), id(run));
            (by, ("start", sql, Some(*run)))
        }
        Act::Bulk { by, flow, inputs } => {
            let ids = vec!["longhaul.new_run_id()"; inputs.len()].join(",");
            let inputs = inputs.iter().map(json).collect::<Vec<_>>().join(",");
            let sql = format!(
                "select * from longhaul.start_runs('default', {}, null, array[{ids}], array[{inputs}])",
                quoted(flow)
            );
            (by, ("bulk start", sql, None))
        }
        Act::Create { by, run, flow, input } => {
            let sql = format!("select longhaul.create_run({}, {}, p_id => {})", quoted(flow), json(input), id(run));
            (by, ("create", sql, Some(*run)))
        }
        Act::StartUnique { by, run, flow, input, key, window_s } => {
            let window = window_s.map(|s| format!("interval '{s} seconds'")).unwrap_or("null".into());
            let name = if window_s.is_none() { format!("unique:{flow}:{key}") } else { "window".into() };
            let sql = format!(
                "select * from longhaul.start_unique('default', {}, null, {}, {}, {}, {window}, p_name => {})",
                quoted(flow),
                id(run),
                json(input),
                quoted(key),
                quoted(&name)
            );
            (by, ("start_unique", sql, Some(*run)))
        }
        Act::Begin { by, run } => (by, operation("start_pending_run", run)),
        Act::Stop { by, run } => (by, operation("stop_run", run)),
        Act::Pause { by, run } => (by, operation("pause_run", run)),
        Act::Resume { by, run } => (by, operation("resume_run", run)),
        Act::Retry { by, run } => (by, operation("retry_run", run)),
        Act::Annotate { by, run } => (
            by,
            (
                "annotate_run",
                format!("select longhaul.annotate_run('default', {}, '{{\"seen\": 1}}')", id(run)),
                Some(*run),
            ),
        ),
        Act::Signal { by, run, topic } => (
            by,
            (
                "signal_run",
                format!("select longhaul.signal_run('default', {}, {}, '1')", id(run), quoted(topic)),
                Some(*run),
            ),
        ),
        Act::Decide { by, run, step, choice } => {
            let sql = format!("select longhaul.decide('default', {}, {}, {})", id(run), quoted(step), quoted(choice));
            (by, ("decide", sql, Some(*run)))
        }
        Act::Send { by, topic, key } => (
            by,
            (
                "send_signal",
                format!("select longhaul.send_signal('default', {}, {}, '1')", quoted(topic), quoted(key)),
                None,
            ),
        ),
        Act::External { by, topic, key, failed, keep_s } => {
            let keep = keep_s.map(|s| format!("interval '{s} seconds'")).unwrap_or("null".into());
            let sql = format!(
                "select longhaul.complete_external('default', {}, {}, '1', {failed}, {keep})",
                quoted(topic),
                quoted(key)
            );
            (by, ("complete_external", sql, None))
        }
        Act::Broadcast { by, topic } => (
            by,
            ("broadcast_signal", format!("select longhaul.broadcast_signal('default', {}, '1')", quoted(topic)), None),
        ),
        Act::RetryDead { by } => {
            (by, ("retry_dead_letters", "select longhaul.retry_dead_letters('default')".into(), None))
        }
        Act::Fork { by, run, step, into } => {
            let into = match into {
                Into::New => "null".into(),
                Into::Run(other) => id(other),
                Into::Random => "gen_random_uuid()".into(),
                Into::Ahead => "longhaul.uuid_at(clock_timestamp() + interval '45 days')".into(),
            };
            let sql = format!("select longhaul.fork_run('default', {}, {}, p_new_id => {into})", id(run), quoted(step));
            (by, ("fork_run", sql, Some(*run)))
        }
        _ => return None,
    };
    Some((*by, Call { name, sql, run }))
}

/// What the rig does as an operator of the whole installation, on a connection of its own.
pub fn operation(act: &Act) -> Option<(&'static str, String)> {
    Some(match act {
        Act::Clock { ms } => ("advance_clock", format!("select longhaul.advance_clock({ms} * interval '1 ms')")),
        Act::Policy { state } => {
            let state = state.as_deref().map(quoted).unwrap_or("null".into());
            (
                "put_retention_policy",
                format!("select longhaul.put_retention_policy('default', 'short', interval '0', {state})"),
            )
        }
        Act::Setting { name, value } => ("set_setting", {
            // The chore that looks at it is due.
            let due = "update longhaul.chore set next_at = longhaul.clock() where name = 'make_partitions'";
            format!("select longhaul.set_setting({}, {value}); {due}", quoted(name))
        }),
        Act::Schedule { name, flow, input, overlap } => (
            "put_schedule",
            format!(
                "select longhaul.put_schedule('default', {}, '* * * * *', 'UTC', {}, null, {}, 'all', {}, 0, null, null, null)",
                quoted(name),
                quoted(flow),
                json(input),
                quoted(overlap)
            ),
        ),
        Act::Tick { name } => (
            "fire_tick",
            format!(
                "select longhaul.fire_tick(s.id, date_trunc('second', longhaul.clock()), false) from longhaul.schedule s where s.name = {}",
                quoted(name)
            ),
        ),
        Act::Limit { queue, most } => {
            ("limit_queue", format!("select longhaul.limit_queue('default', {}, {most})", quoted(queue)))
        }
        Act::Lock { name } => (
            "acquire_lock",
            format!(
                "select l.token, longhaul.release_lock('default', {0}, l.token) from longhaul.acquire_lock('default', {0}, 'me', 1000) l",
                quoted(name)
            ),
        ),
        _ => return None,
    })
}
