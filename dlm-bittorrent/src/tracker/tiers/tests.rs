use proptest::prelude::*;

use super::*;

fn tiers(sizes: &[usize], seed: u64) -> Tiers {
    let mut n = 0;
    let mut name = || {
        n += 1;
        format!("udp://t{}.example:1", n - 1)
    };
    let lists: Vec<Vec<String>> = sizes.iter().map(|size| (0..*size).map(|_| name()).collect()).collect();
    Tiers::new(&lists, seed)
}

fn asked(tiers: &mut Tiers, now: Instant) -> (usize, Option<Event>) {
    match tiers.poll(now) {
        Ask::Announce { tracker, event } => (tracker, event),
        other => panic!("{other:?}"),
    }
}

fn reply(seconds: u64) -> AnnounceReply {
    AnnounceReply::new(Duration::from_secs(seconds))
}

fn later(now: Instant, seconds: u64) -> Instant {
    now + Duration::from_secs(seconds)
}

#[test]
fn who_answers_is_asked_again_after_its_interval() {
    let now = Instant::now();
    let mut tiers = tiers(&[2], 1);
    let (first, event) = asked(&mut tiers, now);
    assert_eq!(event, Some(Event::Started));
    assert_eq!(tiers.poll(now), Ask::Wait(now + PATIENCE));
    tiers.succeeded(first, &reply(900), now);
    assert_eq!(tiers.poll(now), Ask::Wait(later(now, 900)));
    assert_eq!(asked(&mut tiers, later(now, 900)), (first, None));
    assert_eq!(tiers.url(first).unwrap().as_str(), format!("udp://t{first}.example:1"));
}

/// The tracker that knows peers may be the last of many.
#[test]
fn no_tier_waits_for_another() {
    let now = Instant::now();
    let mut tiers = tiers(&[1; 6], 1);
    let all: Vec<_> = (0..6).map(|_| asked(&mut tiers, now)).collect();
    assert_eq!(all, [0, 1, 2, 3, 4, 5].map(|tracker| (tracker, Some(Event::Started))));
    assert_eq!(tiers.poll(later(now, 9)), Ask::Wait(later(now, 10)));
    tiers.succeeded(5, &reply(900), later(now, 9));
    // The others are not asked twice.
    assert_eq!(tiers.poll(later(now, 11)), Ask::Wait(later(now, 909)));
    tiers.failed(0, Retry::Now, later(now, 11));
    let Ask::Wait(at) = tiers.poll(later(now, 11)) else { panic!("it pauses") };
    assert_eq!(
        (asked(&mut tiers, at), (15..=19).contains(&(at - now).as_secs().saturating_sub(11))),
        ((0, Some(Event::Started)), true)
    );
}

/// The usual list of the magnet links out there, all dead but the last.
#[test]
fn silence_costs_seconds_even_where_there_are_more_trackers_than_are_asked_at_once() {
    let now = Instant::now();
    let mut tiers = tiers(&[1; 40], 1);
    let mut at = now;
    loop {
        match tiers.poll(at) {
            Ask::Announce { tracker: 39, .. } => break,
            Ask::Announce { .. } => {}
            Ask::Wait(until) => at = until,
            Ask::Idle => panic!("it is not asked"),
        }
        let awaited = tiers.trackers.iter().filter(|tracker| tracker.awaited_until(at).is_some()).count();
        assert!(awaited <= MAX_AWAITED, "{awaited}");
    }
    assert_eq!(at, later(now, 20));
}

#[test]
fn announces_under_way_are_bounded() {
    let now = Instant::now();
    let mut tiers = tiers(&[1; 100], 1);
    let mut at = now;
    let mut given = 0;
    loop {
        match tiers.poll(at) {
            Ask::Announce { .. } => given += 1,
            Ask::Wait(until) => at = until,
            Ask::Idle => break,
        }
    }
    assert_eq!(given, MAX_UNDER_WAY);
    at += PATIENCE;
    tiers.failed(3, Retry::Now, at);
    assert_eq!(asked(&mut tiers, at).0, MAX_UNDER_WAY);
}

#[test]
fn who_is_silent_is_not_waited_for_but_may_still_answer() {
    let now = Instant::now();
    let mut tiers = tiers(&[3], 5);
    let (silent, _) = asked(&mut tiers, now);
    assert_eq!(tiers.poll(now), Ask::Wait(later(now, 10)));
    let (second, event) = asked(&mut tiers, later(now, 10));
    assert!(second != silent && event == Some(Event::Started));
    tiers.succeeded(second, &reply(900), later(now, 11));
    assert_eq!(tiers.poll(later(now, 12)), Ask::Wait(later(now, 911)));
    // Whatever comes of the first one, nobody is asked for it before it is due.
    tiers.failed(silent, Retry::Now, later(now, 60));
    assert_eq!(tiers.poll(later(now, 60)), Ask::Wait(later(now, 911)));
    // It has a turn again only if the one that answers fails.
    assert_eq!(asked(&mut tiers, later(now, 911)), (second, None));
    tiers.failed(second, Retry::Now, later(now, 911));
    assert_eq!(asked(&mut tiers, later(now, 911)), (silent, Some(Event::Started)));
    let (third, _) = asked(&mut tiers, later(now, 921));
    assert!(third != silent && third != second);
    tiers.succeeded(silent, &reply(900), later(now, 922));
    tiers.failed(third, Retry::Now, later(now, 923));
    assert_eq!(tiers.poll(later(now, 923)), Ask::Wait(later(now, 922 + 900)));
    assert_eq!(asked(&mut tiers, later(now, 922 + 900)), (silent, None));
}

#[test]
fn who_answers_comes_first_in_its_tier() {
    let now = Instant::now();
    let mut tiers = tiers(&[3], 5);
    let first: Vec<usize> = (0..3)
        .map(|_| {
            let (tracker, _) = asked(&mut tiers, now);
            tiers.failed(tracker, Retry::Now, now);
            tracker
        })
        .collect();
    let Ask::Wait(at) = tiers.poll(now) else { panic!("all of them pause") };
    assert!((15..=19).contains(&(at - now).as_secs()));
    // All may be asked again: the third answers.
    let now = later(now, 60);
    for expected in &first[..2] {
        assert_eq!(asked(&mut tiers, now).0, *expected);
        tiers.failed(*expected, Retry::Now, now);
    }
    assert_eq!(asked(&mut tiers, now).0, first[2]);
    tiers.succeeded(first[2], &reply(3600), now);
    let now = later(now, 3600);
    let mut order = Vec::new();
    for _ in 0..3 {
        order.push(asked(&mut tiers, now).0);
        tiers.failed(order[order.len() - 1], Retry::Now, now);
    }
    assert_eq!(order, [first[2], first[0], first[1]]);
}

#[test]
fn the_order_within_a_tier_is_random() {
    let now = Instant::now();
    let firsts: std::collections::HashSet<usize> =
        (0..50).map(|seed| asked(&mut tiers(&[4, 1], seed), now).0).collect();
    assert_eq!(firsts, (0..4).collect());
}

#[test]
fn pauses_grow_and_end_with_success() {
    let mut now = Instant::now();
    let mut tiers = tiers(&[1], 1);
    let mut pauses = Vec::new();
    for _ in 0..12 {
        asked(&mut tiers, now);
        tiers.failed(0, Retry::Now, now);
        let Ask::Wait(at) = tiers.poll(now) else { panic!("it pauses") };
        pauses.push((at - now).as_secs_f64());
        now = at;
    }
    for (i, pause) in pauses.iter().enumerate() {
        let least = (15.0 * f64::from(1 << i)).min(3600.0);
        assert!((least..=least * 1.25).contains(pause), "{pauses:?}");
    }
    asked(&mut tiers, now);
    tiers.succeeded(0, &reply(60), now);
    now = later(now, 60);
    asked(&mut tiers, now);
    tiers.failed(0, Retry::Now, now);
    let Ask::Wait(at) = tiers.poll(now) else { panic!("it pauses") };
    assert!((at - now).as_secs() < 20);
}

#[test]
fn what_a_tracker_asks_for_is_kept() {
    let now = Instant::now();
    let mut tiers = tiers(&[2], 1);
    let (first, _) = asked(&mut tiers, now);
    tiers.failed(first, Retry::After(Duration::from_secs(500)), now);
    let (second, _) = asked(&mut tiers, now);
    assert_ne!(first, second);
    tiers.failed(second, Retry::Never, now);
    assert_eq!(tiers.poll(now), Ask::Wait(later(now, 500)));
    assert_eq!(asked(&mut tiers, later(now, 500)).0, first);
    tiers.failed(first, Retry::Never, now);
    assert_eq!(tiers.poll(later(now, 100_000)), Ask::Idle);
}

#[test]
fn completion_is_told_once_to_each_and_after_the_start() {
    let now = Instant::now();
    let mut tiers = tiers(&[1, 1], 1);
    tiers.completed();
    assert_eq!(asked(&mut tiers, now), (0, Some(Event::Started)));
    assert_eq!(asked(&mut tiers, now), (1, Some(Event::Started)));
    tiers.succeeded(0, &reply(900), now);
    assert_eq!(asked(&mut tiers, now), (0, Some(Event::Completed)));
    tiers.succeeded(0, &reply(900), now);
    tiers.succeeded(1, &reply(900), now);
    assert_eq!(asked(&mut tiers, now), (1, Some(Event::Completed)));
    tiers.failed(1, Retry::Now, now);
    let Ask::Wait(at) = tiers.poll(now) else { panic!("it pauses") };
    assert!((15..=19).contains(&(at - now).as_secs()));
    assert_eq!(asked(&mut tiers, at), (1, Some(Event::Completed)));
    tiers.succeeded(1, &reply(900), at);
    assert_eq!(asked(&mut tiers, later(now, 900)), (0, None));
    // While an announce is under way, too.
    tiers.completed();
    tiers.succeeded(0, &reply(3600), later(now, 900));
    assert_eq!(asked(&mut tiers, later(now, 900)), (0, Some(Event::Completed)));
}

#[test]
fn all_who_know_us_hear_that_we_leave() {
    let now = Instant::now();
    let mut tiers = tiers(&[1, 1, 1], 1);
    for _ in 0..3 {
        asked(&mut tiers, now);
    }
    tiers.succeeded(0, &reply(60), now);
    tiers.succeeded(1, &reply(60), now);
    assert_eq!(asked(&mut tiers, later(now, 60)).0, 0);
    tiers.stop();
    // It counts no more what an announce before that brings.
    tiers.succeeded(2, &reply(60), now);
    assert_eq!(asked(&mut tiers, now), (0, Some(Event::Stopped)));
    assert_eq!(asked(&mut tiers, now), (1, Some(Event::Stopped)));
    assert_eq!(tiers.poll(now), Ask::Idle);
    tiers.failed(0, Retry::Now, now);
    tiers.succeeded(1, &reply(60), now);
    assert_eq!(tiers.poll(later(now, 100_000)), Ask::Idle);
}

#[test]
fn completion_is_told_before_we_leave() {
    let now = Instant::now();
    let mut tiers = tiers(&[1, 1, 1], 1);
    for tracker in 0..3 {
        assert_eq!(asked(&mut tiers, now).0, tracker);
    }
    tiers.succeeded(0, &reply(60), now);
    tiers.succeeded(1, &reply(60), now);
    tiers.completed();
    tiers.stop();
    assert_eq!(asked(&mut tiers, now), (0, Some(Event::Completed)));
    assert_eq!(asked(&mut tiers, now), (1, Some(Event::Completed)));
    tiers.succeeded(0, &reply(60), now);
    assert_eq!(asked(&mut tiers, now), (0, Some(Event::Stopped)));
    tiers.failed(1, Retry::Now, now);
    assert_eq!(tiers.poll(now), Ask::Idle, "who doesn't answer is not told more");
}

#[test]
fn who_is_left_hears_that_and_nothing_more() {
    let now = Instant::now();
    let mut tiers = tiers(&[1; 4], 1);
    assert_eq!(tiers.len(), 4);
    for tracker in 0..4 {
        assert_eq!(asked(&mut tiers, now).0, tracker);
    }
    tiers.succeeded(0, &reply(60), now);
    tiers.succeeded(1, &reply(60), now);
    tiers.failed(3, Retry::Now, now);
    // It is being told that we start.
    (1..4).for_each(|tracker| tiers.leave(tracker));
    tiers.completed();
    assert_eq!(asked(&mut tiers, now), (1, Some(Event::Stopped)));
    tiers.failed(1, Retry::Now, now);
    assert_eq!(asked(&mut tiers, now), (0, Some(Event::Completed)));
    tiers.succeeded(0, &reply(60), now);
    tiers.succeeded(2, &reply(60), now);
    assert_eq!(asked(&mut tiers, now), (2, Some(Event::Stopped)));
    tiers.succeeded(2, &reply(60), now);
    assert_eq!(tiers.poll(now), Ask::Wait(later(now, 60)));
    assert_eq!(asked(&mut tiers, later(now, 5000)), (0, None));
    assert_eq!(tiers.poll(later(now, 5000)), Ask::Wait(later(now, 5000) + PATIENCE), "nobody else");
}

#[test]
fn a_hurry_has_its_bounds() {
    let now = Instant::now();
    let mut tiers = tiers(&[1], 1);
    asked(&mut tiers, now);
    tiers.succeeded(0, &reply(1800), now);
    tiers.hurry(now);
    assert_eq!(tiers.poll(now), Ask::Wait(later(now, 300)));
    asked(&mut tiers, later(now, 300));
    let short = AnnounceReply { min_interval: Some(Duration::from_secs(60)), ..reply(1800) };
    tiers.succeeded(0, &short, now);
    tiers.hurry(later(now, 20));
    assert_eq!(tiers.poll(now), Ask::Wait(later(now, 60)));
    tiers.hurry(later(now, 59));
    assert_eq!(asked(&mut tiers, later(now, 60)), (0, None));
}

#[test]
fn who_is_named_twice_is_asked_once() {
    let now = Instant::now();
    let mut tiers = Tiers::new(&[vec!["udp://t.example:1"], vec!["udp://t.example:1", "udp://u.example:1"]], 1);
    assert_eq!((asked(&mut tiers, now).0, asked(&mut tiers, now).0), (0, 1));
    assert_eq!(tiers.poll(now), Ask::Wait(now + PATIENCE));
}

#[test]
fn without_trackers_there_is_nothing_to_do() {
    let now = Instant::now();
    let mut none = Tiers::new(&[vec!["nonsense"], vec![]], 1);
    assert!(none.is_empty() && !tiers(&[0, 1], 1).is_empty());
    assert_eq!(none.poll(now), Ask::Idle);
    none.succeeded(0, &reply(60), now);
    none.failed(0, Retry::Now, now);
    none.completed();
    none.hurry(now);
    none.stop();
    assert_eq!((none.poll(now), none.url(0)), (Ask::Idle, None));
}

proptest! {
    /// Whatever happens, no tracker is asked while it pauses or is asked already, and it never waits for a time that has passed.
    #[test]
    fn whatever_happens_there_is_a_next_step(
        sizes in prop::collection::vec(0usize..4, 0..4),
        seed: u64,
        steps in prop::collection::vec((0u8..8, 0u64..2000), 0..60),
    ) {
        let mut now = Instant::now();
        let mut tiers = tiers(&sizes, seed);
        let mut allowed = vec![now; sizes.iter().sum()];
        let mut current = Vec::new();
        let mut is_stopped = false;
        for (what, seconds) in steps {
            match tiers.poll(now) {
                Ask::Announce { tracker, event } => {
                    prop_assert!(!current.contains(&tracker));
                    let is_last = matches!(event, Some(Event::Stopped | Event::Completed));
                    let is_right = if is_stopped { is_last } else { now >= allowed[tracker] };
                    prop_assert!(is_right);
                    current.push(tracker);
                }
                Ask::Wait(at) => prop_assert!(at > now && !is_stopped),
                Ask::Idle => prop_assert!(!current.is_empty() || is_stopped || allowed.is_empty()),
            }
            let which = seconds as usize % current.len().max(1);
            match what {
                0..3 if !current.is_empty() => tiers.succeeded(current.swap_remove(which), &reply(60 + seconds), now),
                3..5 if !current.is_empty() => {
                    let tracker = current.swap_remove(which);
                    tiers.failed(tracker, Retry::After(Duration::from_secs(seconds)), now);
                    allowed[tracker] = later(now, seconds);
                }
                5 => tiers.completed(),
                6 => tiers.hurry(now),
                7 if seconds < 100 => {
                    tiers.stop();
                    current.clear();
                    is_stopped = true;
                }
                _ => now = later(now, seconds),
            }
        }
    }
}
