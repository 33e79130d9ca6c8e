//! What keys do, and what is being looked at.

use ratatui::{
    crossterm::event::{Event, KeyCode, KeyEventKind, KeyModifiers},
    widgets::TableState,
};

use super::figures::Figures;

/// What is listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Pane {
    #[default]
    Queues,
    Workers,
    Steps,
    Failures,
}

impl Pane {
    pub(super) const ALL: [Self; 4] = [Self::Queues, Self::Workers, Self::Steps, Self::Failures];

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Queues => "1 queues",
            Self::Workers => "2 workers",
            Self::Steps => "3 steps",
            Self::Failures => "4 failures",
        }
    }

    fn after(self, steps: usize) -> Self {
        Self::ALL[(self as usize + steps) % Self::ALL.len()]
    }

    /// How many ways there are to sort it.
    pub(super) fn sorts(self) -> &'static [&'static str] {
        match self {
            Self::Queues => &["name", "ready", "oldest", "completed", "failed"],
            Self::Workers => &["number", "name", "holds", "last seen"],
            Self::Steps => &["longest", "run", "worker"],
            Self::Failures => &["newest", "flow"],
        }
    }
}

/// What a key asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Does {
    Nothing,
    Leave,
    Pause(String),
    Resume(String),
}

/// What is being looked at.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) pane: Pane,
    pub(super) chosen: TableState,
    sort: [usize; 4],
    /// A queue that is to be paused, or resumed, if the answer is yes.
    pub(super) question: Option<Does>,
    /// What came of the last act.
    pub(super) message: Option<String>,
    /// Why the figures are old.
    pub(super) trouble: Option<String>,
}

impl View {
    /// By which of its ways the pane is sorted.
    pub(super) fn sort(&self) -> usize {
        self.sort[self.pane as usize]
    }

    fn rows(&self, figures: &Figures) -> usize {
        match self.pane {
            Pane::Queues => figures.queues.len(),
            Pane::Workers => figures.workers.len(),
            Pane::Steps => figures.leases.len(),
            Pane::Failures => figures.failures.len(),
        }
    }

    /// Rows come and go: what is chosen is there.
    pub(super) fn keep_within(&mut self, figures: &Figures) {
        let chosen = match self.rows(figures) {
            0 => None,
            rows => Some(self.chosen.selected().unwrap_or_default().min(rows - 1)),
        };
        self.chosen.select(chosen);
    }

    /// What an event asks for.
    pub(super) fn takes(&mut self, event: &Event, figures: &Figures) -> Does {
        let Event::Key(key) = event else { return Does::Nothing };
        if key.kind == KeyEventKind::Release {
            return Does::Nothing;
        }
        if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
            return Does::Leave;
        }
        if let Some(question) = self.question.take() {
            return if matches!(key.code, KeyCode::Char('y' | 'Y')) { question } else { Does::Nothing };
        }
        self.message = None;
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Does::Leave,
            KeyCode::Tab | KeyCode::Right => self.turn_to(self.pane.after(1)),
            KeyCode::BackTab | KeyCode::Left => self.turn_to(self.pane.after(3)),
            KeyCode::Char(number @ '1'..='4') => self.turn_to(Pane::ALL[number as usize - '1' as usize]),
            KeyCode::Down | KeyCode::Char('j') => self.chosen.select_next(),
            KeyCode::Up | KeyCode::Char('k') => self.chosen.select_previous(),
            KeyCode::Char('s') => {
                let sort = &mut self.sort[self.pane as usize];
                *sort = (*sort + 1) % self.pane.sorts().len();
            }
            KeyCode::Char('p') if self.pane == Pane::Queues => self.ask(figures),
            _ => {}
        }
        Does::Nothing
    }

    fn turn_to(&mut self, pane: Pane) {
        self.pane = pane;
        self.chosen = TableState::default();
    }

    fn ask(&mut self, figures: &Figures) {
        let order = super::screen::queue_order(figures, self.sort());
        let line = self.chosen.selected().and_then(|at| order.get(at)).map(|at| &figures.queues[*at].queue);
        self.question = line.map(|queue| match queue.paused_at {
            None => Does::Pause(queue.queue.clone()),
            Some(_) => Does::Resume(queue.queue.clone()),
        });
    }
}
