//! How many steps of a queue run at once.

/// How many steps of a queue run at once: a number, or as many as there is demand for, between a floor and a ceiling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slots {
    /// As few as this when there is nothing to do.
    pub floor: usize,
    /// Never more than this.
    pub ceiling: usize,
}

impl Slots {
    /// Between a floor and a ceiling. A claim that fills all slots doubles them while this process has processor time to
    /// spare; slots that stay empty are given up by halves.
    pub fn between(floor: usize, ceiling: usize) -> Self {
        Self { floor, ceiling }
    }
}

impl From<usize> for Slots {
    fn from(slots: usize) -> Self {
        Self { floor: slots, ceiling: slots }
    }
}
