//! Scenarios by chance. Each has a taste of its own: it uses some features and leaves others out, so that features that hide each
//! other are also seen apart.

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::{Value, json};

use crate::{
    expressions::FLAG,
    flows,
    scenario::{Act, Into, Isolation, Scenario},
};

/// Which features a scenario uses.
#[derive(Clone, Debug)]
pub struct Taste {
    pub odd_data: bool,
    pub conditions: bool,
    pub output: bool,
    pub fan_outs: bool,
    pub children: bool,
    pub sleeps: bool,
    pub signals: bool,
    pub scripts: bool,
    pub questions: bool,
    pub failures: bool,
    pub continues: bool,
    pub compensation: bool,
    pub keys: bool,
    pub fair: bool,
    pub budgets: bool,
    pub limited: bool,
    pub deadlines: bool,
    pub pending: bool,
    pub operators: bool,
    pub transactions: bool,
    pub isolation: bool,
    pub clock_back: bool,
    pub retention: bool,
    pub unique: bool,
    pub schedules: bool,
    pub partitions: bool,
    pub deaths: bool,
    pub garbage: bool,
    pub together: bool,
    pub locks: bool,
    pub batches: bool,
    pub forks: bool,
    pub many: bool,
    /// How many of a key may run at once.
    pub limit: u32,
}

impl Taste {
    fn new(r: &mut StdRng) -> Self {
        // Some scenarios are sober, some take all there is.
        let share = *[0.15, 0.3, 0.5, 0.8].choose(r).expect("some");
        let mut on = || r.random_bool(share);
        Self {
            odd_data: on(),
            conditions: on(),
            output: on(),
            fan_outs: on(),
            children: on(),
            sleeps: on(),
            signals: on(),
            scripts: on(),
            questions: on(),
            failures: on(),
            continues: on(),
            compensation: on(),
            keys: on(),
            fair: on(),
            budgets: on(),
            limited: on(),
            deadlines: on(),
            pending: on(),
            operators: on(),
            transactions: on(),
            isolation: on(),
            clock_back: on(),
            retention: on(),
            unique: on(),
            schedules: on(),
            partitions: r.random_bool(0.05),
            deaths: r.random_bool(share),
            garbage: r.random_bool(share / 2.0),
            together: r.random_bool(share),
            locks: r.random_bool(0.1),
            batches: r.random_bool(0.5),
            forks: r.random_bool(share),
            many: r.random_bool(0.02),
            limit: r.random_range(1..=2),
        }
    }
}

/// The scenario of a seed.
pub fn scenario(seed: u64) -> Scenario {
    let mut random = StdRng::seed_from_u64(seed);
    let taste = Taste::new(&mut random);
    let flows = if taste.many { many_flows(&mut random) } else { flows::flows(&mut random, &taste) };
    let length = random.random_range(8..=40);
    let mut maker = Maker { random, taste, flows: flows.len(), runs: 0 };
    let mut acts = Vec::new();
    if maker.taste.retention {
        acts.push(Act::Policy {
            state: [None, Some("completed".into())].choose(&mut maker.random).cloned().expect("some"),
        });
    }
    if maker.taste.limited {
        acts.push(Act::Limit { queue: "q1".into(), most: maker.random.random_range(1..=2) });
        if maker.random.random_bool(0.5) {
            acts.push(Act::Limit { queue: "default".into(), most: maker.random.random_range(1..=3) });
        }
    }
    for _ in 0..length {
        let act = maker.act();
        acts.push(act);
    }
    Scenario { note: format!("seed {seed}"), flows, acts }
}

/// More at once than a stack, or a window, has room for.
fn many_flows(random: &mut StdRng) -> Vec<Value> {
    let count = random.random_range(30..=60);
    let chain: Vec<Value> = (0..count)
        .map(|number| {
            let mut step = json!({"name": format!("s{number}"), "wait_signal": {"topic": "t0"}});
            if number > 0 {
                step["after"] = json!([format!("s{}", number - 1)]);
            }
            step
        })
        .collect();
    let noop = json!({"name": "f1", "version": 1, "steps": [{"name": "a", "handler": "h", "when": FLAG}]});
    let fan = json!({"name": "f2", "version": 1, "steps": [{"name": "a", "flow": "f1", "for_each": "$.input.many"}]});
    vec![json!({"name": "f0", "version": 1, "steps": chain}), noop, fan]
}

struct Maker {
    random: StdRng,
    taste: Taste,
    flows: usize,
    runs: usize,
}

impl Maker {
    fn by(&mut self) -> usize {
        if self.taste.transactions { self.random.random_range(0..3) } else { 0 }
    }

    fn run(&mut self) -> usize {
        // Now and then one that is not there yet.
        self.random.random_range(0..=self.runs.saturating_sub(1))
    }

    fn flow(&mut self) -> String {
        format!("f{}", self.random.random_range(0..self.flows))
    }

    fn input(&mut self) -> Value {
        let mut input = flows::input(&mut self.random, &self.taste);
        if self.taste.many && input.is_object() {
            input["many"] = json!(vec![0; 60]);
        }
        input
    }

    fn new_run(&mut self) -> usize {
        self.runs += 1;
        self.runs - 1
    }

    fn act(&mut self) -> Act {
        if self.runs == 0 {
            return self.start();
        }
        if self.taste.together && self.random.random_bool(0.1) {
            let count = self.random.random_range(2..=4);
            return Act::Together { acts: (0..count).map(|_| self.one_of_many()).collect() };
        }
        match self.random.random_range(0..22) {
            0..=3 => self.start(),
            4..=6 => self.claim(),
            7..=10 => self.finish(),
            11..=13 => Act::Chores,
            14 => {
                Act::Clock { ms: *[300, 1500, 3000, 12_000, 70_000, 4_000_000].choose(&mut self.random).expect("some") }
            }
            15 | 16 => self.call(),
            17 | 18 => self.operate(),
            19 => self.transact(),
            _ => self.special(),
        }
    }

    fn start(&mut self) -> Act {
        let (by, flow, input) = (self.by(), self.flow(), self.input());
        if self.random.random_bool(0.1) {
            let inputs = (0..3).map(|_| self.input()).collect();
            return Act::Bulk { by, flow, inputs };
        }
        if self.taste.unique && self.random.random_bool(0.5) {
            let key = format!("u{}", self.random.random_range(0..2));
            return Act::StartUnique {
                by,
                run: self.new_run(),
                flow,
                input,
                key,
                window_s: [None, None, Some(3)].choose(&mut self.random).copied().expect("some"),
            };
        }
        if self.taste.pending && self.random.random_bool(0.4) {
            return Act::Create { by, run: self.new_run(), flow, input };
        }
        // The same number again is the same start again.
        let run = if self.runs > 0 && self.random.random_bool(0.05) { self.run() } else { self.new_run() };
        let delay_ms = self
            .random
            .random_bool(0.25)
            .then(|| *[1000, 3000, 30_000, -3_600_000].choose(&mut self.random).expect("some"));
        Act::Start { by, run, flow, input, delay_ms }
    }

    fn claim(&mut self) -> Act {
        Act::Claim {
            most: *[1, 2, 20].choose(&mut self.random).expect("some"),
            open: self.taste.transactions && !self.taste.limited && self.random.random_bool(0.15),
            reversed: self.random.random_bool(0.5),
        }
    }

    fn finish(&mut self) -> Act {
        let count = if self.taste.batches { 20 } else { 1 };
        Act::Finish { from: self.random.random_range(0..8), count }
    }

    fn call(&mut self) -> Act {
        let (by, run) = (self.by(), self.run());
        let (topic, key) =
            (format!("t{}", self.random.random_range(0..2)), format!("k{}", self.random.random_range(0..2)));
        match self.random.random_range(0..7) {
            0..=2 => Act::Signal { by, run, topic },
            3 => Act::Send { by, topic, key },
            4 | 5 => Act::External {
                by,
                topic: "label".into(),
                key,
                failed: self.random.random_bool(0.5),
                keep_s: self.random.random_bool(0.2).then_some(1),
            },
            _ => Act::Broadcast { by, topic },
        }
    }

    fn operate(&mut self) -> Act {
        if !self.taste.operators {
            return Act::Annotate { by: self.by(), run: self.run() };
        }
        let (by, run) = (self.by(), self.run());
        match self.random.random_range(0..9) {
            0 | 1 => Act::Stop { by, run },
            2 => Act::Pause { by, run },
            3 => Act::Resume { by, run },
            4 => Act::Retry { by, run },
            5 => Act::RetryDead { by },
            6 => Act::Decide {
                by,
                run,
                step: "a".into(),
                choice: ["approve", "reject"].choose(&mut self.random).expect("some").to_string(),
            },
            7 if self.taste.forks => Act::Fork {
                by,
                run,
                step: ["a", "b", "c"].choose(&mut self.random).expect("some").to_string(),
                into: self.into(),
            },
            _ => Act::Begin { by, run },
        }
    }

    fn into(&mut self) -> Into {
        match self.random.random_range(0..8) {
            0 => Into::Random,
            1 => Into::Ahead,
            2 => Into::Run(self.run()),
            _ => Into::New,
        }
    }

    fn transact(&mut self) -> Act {
        let by = self.by();
        let isolation = if self.taste.isolation {
            [Isolation::RepeatableRead, Isolation::Serializable].choose(&mut self.random).copied().expect("some")
        } else {
            Isolation::ReadCommitted
        };
        match self.random.random_range(0..5) {
            _ if !self.taste.transactions => Act::Chores,
            0..=2 => Act::Open { by, isolation },
            3 => Act::Commit { by },
            _ => Act::Rollback { by },
        }
    }

    fn special(&mut self) -> Act {
        let taste = self.taste.clone();
        match self.random.random_range(0..7) {
            0 if taste.clock_back => {
                Act::Clock { ms: *[-3000, -20_000, -40_000, -3_600_000].choose(&mut self.random).expect("some") }
            }
            1 if taste.deaths => Act::Die,
            2 if taste.garbage => Act::Garble { what: self.random.random_range(0..100) },
            3 if taste.schedules => {
                let name = format!("s{}", self.random.random_range(0..2));
                if self.random.random_bool(0.5) {
                    Act::Schedule {
                        name,
                        flow: self.flow(),
                        input: self.input(),
                        overlap: ["allow", "skip", "queue", "queue"]
                            .choose(&mut self.random)
                            .expect("some")
                            .to_string(),
                    }
                } else {
                    Act::Tick { name }
                }
            }
            4 if taste.partitions => {
                Act::Setting { name: "partition_days".into(), value: self.random.random_range(1..=14) }
            }
            5 if taste.locks => Act::Lock { name: "month-end".into() },
            6 if taste.locks => Act::Clock { ms: 32 * 86_400_000 },
            _ if taste.pending => Act::Begin { by: self.by(), run: self.run() },
            _ => Act::Chores,
        }
    }

    /// What can be done at the same time as others.
    fn one_of_many(&mut self) -> Act {
        match self.random.random_range(0..6) {
            0 => self.start(),
            1 => self.call(),
            2 => self.operate(),
            3 => Act::Chores,
            4 => Act::Claim { most: 20, open: false, reversed: self.random.random_bool(0.5) },
            _ => self.finish(),
        }
    }
}
