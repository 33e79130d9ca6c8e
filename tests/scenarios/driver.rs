//! The driver: does the acts of a scenario in their order, on connections of callers, a worker and a scheduler, and asks after each
//! whether all invariants hold.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::{
    caller::{Call, Caller, Outcome},
    scenario::{Act, Isolation, Scenario},
    server::{Answer, Refusal, Server, ask},
    statements,
    worker::{self, Held, Steps},
};

/// What went wrong. The rule is the same for the same defect, whatever the ids; the detail says where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub rule: String,
    pub detail: String,
}

pub type Checked = Result<(), Finding>;

pub fn finding(rule: impl Into<String>, detail: impl Into<String>) -> Checked {
    Err(Finding { rule: rule.into(), detail: detail.into() })
}

/// The connections of a rig, used by one scenario after the other.
pub struct Connections {
    pub callers: Vec<Caller>,
    pub worker: Arc<Client>,
    pub slow_worker: Arc<Client>,
    pub scheduler: Arc<Client>,
    pub extra: Vec<Arc<Client>>,
    /// Whether complete() can pass over runs that somebody holds.
    pub skips_busy: bool,
}

impl Connections {
    pub async fn new(server: &Server) -> Self {
        let mut callers = Vec::new();
        for _ in 0..3 {
            callers.push(Caller::new(server).await);
        }
        let impatient = || async {
            let client = server.connection().await;
            ask(&client, "set lock_timeout = '150ms'").await.expect("a setting");
            client
        };
        let mut extra = Vec::new();
        for _ in 0..4 {
            let client = server.connection().await;
            ask(&client, "set lock_timeout = '3s'").await.expect("a setting");
            extra.push(client);
        }
        let skips = "select from pg_proc p where p.pronamespace = 'longhaul'::regnamespace and p.proname = 'complete' and 'p_skip_busy' = any (p.proargnames)";
        Self {
            callers,
            worker: impatient().await,
            slow_worker: impatient().await,
            scheduler: impatient().await,
            extra,
            skips_busy: !server.admin(skips).await.is_empty(),
        }
    }
}

/// A scenario that is being done.
pub struct Driver<'a> {
    pub server: &'a Server,
    pub connections: &'a mut Connections,
    pub scenario: &'a Scenario,
    pub ids: Vec<Uuid>,
    pub worker: String,
    pub steps: Steps,
    pub held: Vec<Held>,
    /// Claimed in a transaction that is still open.
    pub claimed_open: Vec<Held>,
    pub is_claim_open: bool,
    pub tokens: BTreeMap<String, i64>,
    pub retained: bool,
    /// A garbled call was taken for something.
    pub garbled: bool,
    /// Rules that are not looked at.
    pub except: &'a [String],
    pub log: Vec<String>,
}

/// Does a scenario on an emptied installation.
pub async fn run(
    server: &Server,
    connections: &mut Connections,
    scenario: &Scenario,
    except: &[String],
) -> (Checked, Vec<String>) {
    for caller in &mut connections.callers {
        caller.reset(server).await;
    }
    let _ = ask(&connections.slow_worker, "rollback").await;
    let _ = ask(&connections.scheduler, "rollback").await;
    server.empty().await;
    let mut driver = Driver {
        server,
        connections,
        scenario,
        ids: (0..100).map(|_| Uuid::now_v7()).collect(),
        worker: String::new(),
        steps: Steps::new(),
        held: Vec::new(),
        claimed_open: Vec::new(),
        is_claim_open: false,
        tokens: BTreeMap::new(),
        retained: false,
        garbled: false,
        except,
        log: Vec::new(),
    };
    let checked = driver.whole().await;
    (checked, driver.log)
}

impl Driver<'_> {
    async fn whole(&mut self) -> Checked {
        self.deploy().await?;
        self.register().await?;
        for act in &self.scenario.acts {
            self.act(act).await?;
            self.collect().await?;
            self.ask("always").await?;
        }
        self.drain().await
    }

    async fn deploy(&mut self) -> Checked {
        for flow in &self.scenario.flows {
            let sql = format!("select longhaul.deploy('default', {}::jsonb)", worker::quoted(&flow.to_string()));
            let answer = self.noted("deploy", &self.connections.worker.clone(), &sql).await;
            match answer {
                // Refused: a scenario with one flow less.
                Err(refusal) if refusal.code.starts_with("LH") => {}
                Err(refusal) => return finding(format!("deploy fails with {}", refusal.code), refusal.message),
                Ok(_) => {}
            }
        }
        let steps = "select s.flow_id, s.seq, coalesce(l.handler, ''), coalesce(s.parameters, '{}')::text from longhaul.flow_step s left join longhaul.lane l on l.id = s.lane_id";
        for row in self.server.admin(steps).await {
            let text = |i: usize| row[i].clone().unwrap_or_default();
            let with: Value = serde_json::from_str(&text(3)).expect("JSON");
            self.steps.insert((number(&text(0)), number(&text(1))), (text(2), with));
        }
        Ok(())
    }

    pub async fn register(&mut self) -> Checked {
        let sql = "select worker_id from longhaul.register_worker('default', 'w', 'host', 1, '1', array['default', 'q1'], array['h', 'undo', 'undo-fails'], 10, 3600000)";
        match self.noted("worker", &self.connections.worker.clone(), sql).await {
            Ok(rows) => self.worker = rows[0][0].clone().expect("an id"),
            Err(refusal) => return finding(format!("register_worker fails with {}", refusal.code), refusal.message),
        }
        Ok(())
    }

    /// A statement, with a line in the log.
    pub async fn noted(&mut self, who: &str, client: &Client, sql: &str) -> Answer {
        let answer = ask(client, sql).await;
        self.note(who, sql, &answer);
        answer
    }

    fn note(&mut self, who: &str, sql: &str, answer: &Answer) {
        let short: String = match answer {
            Ok(rows) => {
                format!("{} rows {:?}", rows.len(), rows.first().map(|row| row.iter().flatten().collect::<Vec<_>>()))
            }
            Err(refusal) => format!("{} {}", refusal.code, refusal.message),
        };
        let short: String = short.chars().take(200).collect();
        self.log.push(format!("/* {who} */ {sql};\n    -- {short}"));
    }

    async fn act(&mut self, act: &Act) -> Checked {
        match act {
            Act::Open { by, isolation } => self.open(*by, *isolation).await,
            Act::Commit { by } => self.close(*by, "commit").await,
            Act::Rollback { by } => self.close(*by, "rollback").await,
            Act::Claim { most, open, reversed } => self.claim(*most, *open, *reversed).await,
            Act::Finish { from, count } => self.finish(*from, *count, true).await,
            Act::Die => self.die().await,
            Act::Garble { what } => self.garble(*what).await,
            Act::Chores => self.chores().await,
            Act::Together { acts } => self.together(acts).await,
            _ => match statements::call(act, &self.ids) {
                Some((by, call)) => self.call(by, call).await,
                None => self.operation(act).await,
            },
        }
    }

    async fn open(&mut self, by: usize, isolation: Isolation) -> Checked {
        let caller = &mut self.connections.callers[by];
        if caller.open.is_some() || caller.is_waiting() {
            return Ok(());
        }
        let level = match isolation {
            Isolation::ReadCommitted => "read committed",
            Isolation::RepeatableRead => "repeatable read",
            Isolation::Serializable => "serializable",
        };
        caller.open = Some(isolation);
        let client = caller.client.clone();
        let sql = format!("begin isolation level {level}; select count(*) from longhaul.flow");
        let _ = self.noted(&format!("caller {by}"), &client, &sql).await;
        Ok(())
    }

    pub async fn close(&mut self, by: usize, how: &str) -> Checked {
        let caller = &mut self.connections.callers[by];
        if caller.open.is_none() || caller.is_waiting() {
            return Ok(());
        }
        let isolation = caller.open.take();
        caller.aborted = false;
        caller.touched.clear();
        let client = caller.client.clone();
        match self.noted(&format!("caller {by}"), &client, how).await {
            Err(refusal) if refusal.code == "40001" && isolation == Some(Isolation::Serializable) => Ok(()),
            Err(refusal) => finding(format!("{how} fails with {}", refusal.code), refusal.message),
            Ok(_) => Ok(()),
        }
    }

    pub async fn call(&mut self, by: usize, call: Call) -> Checked {
        let caller = &mut self.connections.callers[by];
        if caller.is_waiting() || caller.aborted {
            return Ok(());
        }
        match caller.send(self.server, call.clone()).await {
            Outcome::Answered(call, answer) => {
                self.check_fork(by, &call, &answer).await?;
                self.answered(by, call, answer)
            }
            Outcome::Waits => {
                self.log.push(format!("/* caller {by} */ {};\n    -- waits for a lock", call.sql));
                if self.may_wait(by, &call) {
                    Ok(())
                } else {
                    finding(format!("{} waits for another run", call.name), call.sql)
                }
            }
        }
    }

    /// What is given as a fork is one.
    async fn check_fork(&self, by: usize, call: &Call, answer: &Answer) -> Checked {
        let Ok(rows) = answer else { return Ok(()) };
        if call.name != "fork_run" || self.connections.callers[by].open.is_some() {
            return Ok(());
        }
        let id = rows[0][0].as_deref().unwrap_or_default();
        let source = call.run.map(|run| self.ids[run].to_string()).unwrap_or_default();
        let sql = format!("select from longhaul.run r where r.id = '{id}' and r.forked_from = '{source}'");
        match self.server.admin(&sql).await.is_empty() {
            true => finding("a run is given as a fork that is none", id),
            false => Ok(()),
        }
    }

    /// Whether a caller may be kept waiting by the open transactions of others: only for what is the same.
    fn may_wait(&self, by: usize, call: &Call) -> bool {
        let others = self
            .connections
            .callers
            .iter()
            .enumerate()
            .filter(|(number, caller)| *number != by && (caller.open.is_some() || caller.is_waiting()));
        let mut touched: Vec<Option<usize>> = others.flat_map(|(_, caller)| caller.touched.clone()).collect();
        touched.retain(|run| run.is_some());
        match call.name {
            "start" | "create" => touched.contains(&call.run),
            "start_unique" => true,
            "bulk start" | "broadcast_signal" | "retry_dead_letters" => false,
            _ => true,
        }
    }

    fn answered(&mut self, by: usize, call: Call, answer: Answer) -> Checked {
        self.note(&format!("caller {by}"), &call.sql, &answer);
        let caller = &mut self.connections.callers[by];
        match answer {
            Ok(_) => {
                if caller.open.is_some() {
                    caller.touched.push(call.run);
                }
                Ok(())
            }
            Err(refusal) => {
                caller.aborted = caller.open.is_some();
                let strict = caller.open.is_some_and(|isolation| isolation != Isolation::ReadCommitted);
                let own = refusal.code == "40P01" && !matches!(call.name, "start" | "create" | "bulk start");
                refused(call.name, &refusal, strict || (own && caller.open.is_some()))
            }
        }
    }

    /// Answers of callers that had to wait.
    pub async fn collect(&mut self) -> Checked {
        for by in 0..self.connections.callers.len() {
            if self.connections.callers[by].is_waiting()
                && let Outcome::Answered(call, answer) = self.connections.callers[by].answer(self.server).await
            {
                self.answered(by, call, answer)?;
            }
        }
        Ok(())
    }

    async fn operation(&mut self, act: &Act) -> Checked {
        let Some((name, sql)) = statements::operation(act) else { return Ok(()) };
        self.retained |= matches!(act, Act::Policy { .. });
        let client = self.connections.scheduler.clone();
        match self.noted("operator", &client, &sql).await {
            Ok(rows) => match act {
                Act::Lock { name } => {
                    self.token(name, rows.first().and_then(|row| row[0].as_deref()).unwrap_or_default())
                }
                _ => Ok(()),
            },
            Err(refusal) => refused(name, &refusal, false),
        }
    }

    fn token(&mut self, name: &str, token: &str) -> Checked {
        let token = token.parse().unwrap_or(0);
        match self.tokens.insert(name.into(), token) {
            Some(before) if before >= token => {
                finding("a lock's token does not grow", format!("{before}, then {token}"))
            }
            _ => Ok(()),
        }
    }

    /// Whether nobody is at anything.
    pub fn is_quiet(&self) -> bool {
        !self.is_claim_open
            && self.connections.callers.iter().all(|caller| caller.open.is_none() && !caller.is_waiting())
    }

    /// Asks for breaches, by one of the questions of the invariants.
    pub async fn ask(&self, question: &str) -> Checked {
        let breaches = self.server.admin(&format!("execute {question}")).await;
        let known = |rule: &str| self.except.iter().any(|known| rule.contains(known));
        match breaches
            .iter()
            .map(|row| (row[0].clone().unwrap_or_default(), row[1].clone().unwrap_or_default()))
            .find(|(rule, _)| !known(rule))
        {
            Some((rule, detail)) => finding(rule, detail),
            None => Ok(()),
        }
    }
}

/// What is a refusal of ours, or the price of a caller's isolation level, is no finding.
pub fn refused(name: &str, refusal: &Refusal, may_conflict: bool) -> Checked {
    let conflict = matches!(&*refusal.code, "40001" | "40P01" | "25P02");
    if refusal.code.starts_with("LH") || (may_conflict && conflict) {
        return Ok(());
    }
    let rule = match &*refusal.code {
        "55P03" => format!("{name} waits for a lock that somebody else keeps"),
        code => format!("{name} fails with {code}"),
    };
    finding(rule, refusal.message.clone())
}

pub fn number(text: &str) -> i32 {
    text.parse().unwrap_or_default()
}
