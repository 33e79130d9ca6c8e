//! The sender against a destination that plays the database.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
};

use super::*;

/// What the destination does with an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nature {
    Good,
    /// Refused alone; a good one takes its place.
    Bad,
    /// Somebody else is busy with it, for so many calls.
    Busy(usize),
    /// The call that holds it meets passing trouble so many times, though the database answers others.
    Heavy(usize),
    /// Nobody waits for it, and nothing stores it.
    Unwanted,
    /// The call that holds it meets what does not pass by itself.
    Broken,
}

#[derive(Default)]
struct Fake {
    away: AtomicBool,
    calls: AtomicUsize,
    tries: Mutex<HashMap<u32, usize>>,
    stored: Mutex<Vec<u32>>,
    refused: Mutex<Vec<u32>>,
}

impl Fake {
    fn stored(&self) -> Vec<u32> {
        let mut stored = self.stored.lock().unwrap().clone();
        stored.sort();
        stored
    }
}

type Item = (u32, Nature);

impl Destination for Fake {
    type Item = Item;

    fn calls(&self, batch: Vec<Item>) -> Vec<Vec<Item>> {
        vec![batch]
    }

    async fn store(&self, items: Vec<Item>) -> Stored<Item> {
        self.calls.fetch_add(1, SeqCst);
        tokio::task::yield_now().await;
        if self.away.load(SeqCst) {
            return Err((items, Error::Unavailable("away".into())));
        }
        let mut busy = Vec::new();
        for item in &items {
            let tries = {
                let mut tries = self.tries.lock().unwrap();
                let tries = tries.entry(item.0).or_default();
                *tries += 1;
                *tries
            };
            match item.1 {
                Nature::Bad => return Err((items, Error::Invalid("bad".into()))),
                Nature::Broken => return Err((items, Error::Corrupt("broken".into()))),
                Nature::Heavy(times) if tries <= times => {
                    return Err((items, Error::Unavailable("canceled by its timeout".into())));
                }
                Nature::Unwanted => return Err((items, Error::Unavailable("away".into()))),
                Nature::Busy(times) if tries <= times => busy.push(*item),
                _ => {}
            }
        }
        let done = items.iter().filter(|item| !busy.contains(item));
        self.stored.lock().unwrap().extend(done.map(|item| item.0));
        Ok(busy)
    }

    async fn refused(&self, item: Item, _: &Error) -> Option<Item> {
        self.refused.lock().unwrap().push(item.0);
        (item.1 == Nature::Bad).then_some((item.0 + 1000, Nature::Good))
    }

    async fn reachable(&self) -> bool {
        !self.away.load(SeqCst)
    }

    fn is_wanted(&self, item: &Item) -> bool {
        item.1 != Nature::Unwanted
    }
}

/// Sends these in one batch, and waits for the end.
async fn send(fake: &Fake, items: Vec<Item>) -> Result<(), Error> {
    let (sender, inbox) = mpsc::channel(1000);
    for item in items {
        sender.send(item).await.unwrap();
    }
    drop(sender);
    run(fake, inbox, 1000).await
}

fn good(numbers: std::ops::Range<u32>) -> Vec<Item> {
    numbers.map(|number| (number, Nature::Good)).collect()
}

#[tokio::test(start_paused = true)]
async fn what_waits_goes_in_one_call() {
    let fake = Fake::default();
    send(&fake, good(0..500)).await.unwrap();
    assert_eq!((fake.stored(), fake.calls.load(SeqCst)), ((0..500).collect(), 1));
}

#[tokio::test(start_paused = true)]
async fn bad_items_are_found_by_halves_and_replaced_and_all_others_are_stored() {
    let fake = Fake::default();
    let mut items = good(0..300);
    items[17].1 = Nature::Bad;
    items[250].1 = Nature::Bad;
    send(&fake, items).await.unwrap();
    let expected: Vec<u32> = (0..300).filter(|n| ![17, 250].contains(n)).chain([1017, 1250]).collect();
    assert_eq!(fake.stored(), expected);
    assert!(fake.calls.load(SeqCst) < 50, "{} calls", fake.calls.load(SeqCst));
}

#[tokio::test(start_paused = true)]
async fn a_database_that_is_away_is_waited_for_with_whole_batches() {
    let fake = Fake::default();
    fake.away.store(true, SeqCst);
    let back = async {
        tokio::time::sleep(Duration::from_secs(600)).await;
        fake.away.store(false, SeqCst);
    };
    let (sent, ()) = tokio::join!(send(&fake, good(0..300)), back);
    sent.unwrap();
    assert_eq!(fake.stored(), (0..300).collect::<Vec<_>>());
    assert!(fake.calls.load(SeqCst) < 600, "not in small parts: {} calls", fake.calls.load(SeqCst));
}

#[tokio::test(start_paused = true)]
async fn busy_items_hold_nobody_up_and_are_sent_again() {
    let fake = Fake::default();
    let (sender, inbox) = mpsc::channel::<Item>(10);
    let sending = async {
        sender.send((1, Nature::Busy(50))).await.unwrap();
        sender.send((2, Nature::Busy(3))).await.unwrap();
        for number in 3..100 {
            sender.send((number, Nature::Good)).await.unwrap();
        }
        while fake.stored().len() < 98 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(!fake.stored().contains(&1), "it waits apart");
        drop(sender);
    };
    let (ended, ()) = tokio::join!(run(&fake, inbox, 1000), sending);
    ended.unwrap();
    assert_eq!(fake.stored(), (1..100).collect::<Vec<_>>());
    assert!(fake.refused.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn one_that_the_database_cannot_serve_in_time_holds_nobody_up_and_is_never_given_up() {
    let fake = Fake::default();
    let mut items = good(0..100);
    items[42].1 = Nature::Heavy(40);
    send(&fake, items).await.unwrap();
    assert_eq!(fake.stored(), (0..100).collect::<Vec<_>>());
    assert!(fake.refused.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_nobody_waits_for_is_not_sent_again() {
    let fake = Fake::default();
    let mut items = good(0..10);
    items[3].1 = Nature::Unwanted;
    send(&fake, items).await.unwrap();
    assert_eq!(fake.stored().len(), 9);
}

#[tokio::test(start_paused = true)]
async fn one_that_breaks_its_calls_is_refused_when_others_are_stored_meanwhile() {
    let fake = Fake::default();
    let (sender, inbox) = mpsc::channel::<Item>(10);
    let sending = async {
        sender.send((1, Nature::Broken)).await.unwrap();
        let mut number = 2;
        while fake.refused.lock().unwrap().is_empty() {
            sender.send((number, Nature::Good)).await.unwrap();
            number += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        drop(sender);
    };
    let (ended, ()) = tokio::join!(run(&fake, inbox, 1000), sending);
    ended.unwrap();
    assert_eq!(*fake.refused.lock().unwrap(), [1]);
}

#[tokio::test(start_paused = true)]
async fn when_nothing_can_be_stored_for_long_the_sender_ends_with_the_reason() {
    let fake = Fake::default();
    let began = Instant::now();
    let error = send(&fake, vec![(1, Nature::Broken), (2, Nature::Broken)]).await.unwrap_err();
    assert!(matches!(error, Error::Corrupt(_)) && began.elapsed() >= BROKEN_FOR, "{error}");
    assert!(fake.refused.lock().unwrap().is_empty(), "they are not to blame");
}

#[test]
fn errors_are_told_apart() {
    assert_eq!(trouble(&Error::Unavailable("x".into())), Trouble::Passing);
    assert_eq!(trouble(&Error::Invalid("x".into())), Trouble::Item);
    assert_eq!(trouble(&Error::NotInstalled("x".into())), Trouble::Installation);
    assert_eq!(trouble(&Error::Denied("x".into())), Trouble::Installation);
}
