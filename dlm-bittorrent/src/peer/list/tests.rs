use super::*;

const ROOM: Room = Room { half_open: 100, connections: 100 };

fn list() -> PeerList {
    PeerList::new(10, 20, Rng::with_seed(1))
}

fn peer(n: u32) -> SocketAddr {
    SocketAddr::from(((0x0a00_0000 + n).to_be_bytes(), 6881))
}

#[test]
fn limits_of_the_torrent_and_of_the_caller_hold() {
    let (mut list, now) = (list(), Instant::now());
    (0..50).for_each(|n| assert_eq!(list.add(peer(n), Origin::Tracker), Added::New));
    assert_eq!(list.next(now, Room { half_open: 0, ..ROOM }), None);
    assert_eq!(list.next(now, Room { connections: 0, ..ROOM }), None);
    let opened: Vec<_> = std::iter::from_fn(|| list.next(now, ROOM)).collect();
    assert_eq!(opened.len(), 10, "half-open ones");
    opened.iter().for_each(|address| list.connected(*address, true));
    (0..5).for_each(|n| list.connected(peer(1000 + n), false));
    assert_eq!((list.half_open(), list.connections()), (0, 15));
    assert_eq!(std::iter::from_fn(|| list.next(now, ROOM)).count(), 5, "of all");
    list.ended(now, peer(1000), false, Ended::Served);
    list.ended(now, opened[0], true, Ended::Served);
    assert_eq!(std::iter::from_fn(|| list.next(now, ROOM)).count(), 2);
}

#[test]
fn it_is_idle_where_more_peers_are_needed() {
    let (mut list, now) = (list(), Instant::now());
    assert!(list.is_idle(now));
    list.add(peer(1), Origin::Tracker);
    assert!(!list.is_idle(now), "somebody can be connected to");
    list.next(now, ROOM);
    assert!(!list.is_idle(now), "somebody is being connected to");
    list.connected(peer(1), true);
    assert!(!list.is_idle(now), "somebody is connected");
    list.ended(now, peer(1), true, Ended::Failed);
    assert!(list.is_idle(now) && !list.is_idle(now + FAILED));
}

#[test]
fn who_fails_is_left_alone_for_longer_and_longer_and_then_forgotten() {
    // It doesn't answer, or hangs up after its handshake.
    for answers in [false, true] {
        let (mut list, mut now) = (list(), Instant::now());
        list.add(peer(1), Origin::Tracker);
        for failure in 1..=u32::from(MAX_FAILURES) {
            assert_eq!(list.next(now, ROOM), Some(peer(1)));
            if answers {
                list.connected(peer(1), true);
            }
            list.ended(now, peer(1), true, Ended::Failed);
            let wait = (FAILED * 4u32.pow(failure - 1)).min(MAX_BACK_OFF);
            assert_eq!(list.next(now + wait - Duration::from_millis(1), ROOM), None);
            assert!(list.next_due().is_none_or(|due| due == now + wait));
            now += wait;
        }
        assert!(list.is_empty());
        assert_eq!((list.half_open(), list.connections()), (0, 0));
    }
}

/// Nobody else tells of it, and the user may start it later.
#[test]
fn whom_the_user_names_is_never_forgotten() {
    for is_known_before in [false, true] {
        let (mut list, mut now) = (list(), Instant::now());
        if is_known_before {
            list.add(peer(1), Origin::Tracker);
        }
        list.add(peer(1), Origin::User);
        for _ in 0..300 {
            assert_eq!(list.next(now, ROOM), Some(peer(1)));
            list.ended(now, peer(1), true, Ended::Failed);
            now = list.next_due().unwrap();
        }
        list.next(now, ROOM);
        list.ended(now, peer(1), true, Ended::Failed);
        assert_eq!(list.next_due(), Some(now + MAX_BACK_OFF_OF_USER));
        // Nor does it make room for others.
        (2..MAX_CANDIDATES as u32 + 10).for_each(|n| _ = list.add(peer(n), Origin::Tracker));
        assert_eq!(list.add(peer(1), Origin::Tracker), Added::Known);
    }
}

#[test]
fn who_has_served_us_begins_anew() {
    let (mut list, now) = (list(), Instant::now());
    list.add(peer(1), Origin::Tracker);
    let later = now + MAX_BACK_OFF;
    let mut has_failed = false;
    for how in [Ended::Failed, Ended::Failed, Ended::Served, Ended::Failed] {
        assert_eq!(list.has_failed(peer(1)), has_failed);
        has_failed = how == Ended::Failed;
        assert_eq!(list.next(later, ROOM), Some(peer(1)));
        list.connected(peer(1), true);
        list.ended(now, peer(1), true, how);
    }
    assert_eq!(list.next_due(), Some(now + FAILED));
}

#[test]
fn who_never_failed_comes_first_and_then_bep_40_decides() {
    let (mut list, now) = (list(), Instant::now());
    let ours = "123.213.32.10:6881".parse().unwrap();
    list.set_our_address(ours);
    (0..5).for_each(|n| _ = list.add(peer(n * 65_536), Origin::Dht));
    let mut best: Vec<_> = (0..5).map(|n| peer(n * 65_536)).collect();
    best.sort_by_key(|address| std::cmp::Reverse(canonical_priority(ours, *address)));
    assert_eq!(list.next(now, ROOM), Some(best[0]));
    list.ended(now, best[0], true, Ended::Failed);
    let later = now + MAX_BACK_OFF;
    let order: Vec<_> = std::iter::from_fn(|| list.next(later, ROOM)).collect();
    assert_eq!(order, [best[1], best[2], best[3], best[4], best[0]]);
    assert_eq!(list.add(ours, Origin::Tracker), Added::Refused);
}

#[test]
fn the_list_is_bounded_and_the_worst_makes_room() {
    let (mut list, now) = (list(), Instant::now());
    let full = MAX_CANDIDATES as u32;
    (0..full).for_each(|n| _ = list.add(peer(n), Origin::Exchange));
    assert_eq!(list.add(peer(full), Origin::Exchange), Added::Full);
    let failed = list.next(now, ROOM).unwrap();
    list.ended(now, failed, true, Ended::Failed);
    assert_eq!(list.add(peer(full), Origin::Exchange), Added::New);
    assert_eq!(list.add(failed, Origin::Exchange), Added::Full);
    assert_eq!(list.add(failed, Origin::Tracker), Added::New, "a tracker's word is worth more than a peer's");
    assert_eq!(list.len(), MAX_CANDIDATES);
}

#[test]
fn the_banned_and_the_impossible_are_refused() {
    let mut list = list();
    list.add(peer(1), Origin::User);
    list.ban(peer(1).ip());
    assert!(list.is_empty() && list.is_banned(peer(1).ip()));
    for address in
        ["10.0.0.1:80", "1.2.3.4:0", "0.0.0.0:1", "224.0.0.1:1", "255.255.255.255:1", "[::]:1", "[ff02::1]:1"]
    {
        assert_eq!(list.add(address.parse().unwrap(), Origin::Tracker), Added::Refused, "{address}");
    }
    list.ban("2001:db8::1".parse().unwrap());
    assert!(list.is_banned("2001:db8::ffff".parse().unwrap()) && !list.is_banned("2001:db8:0:1::1".parse().unwrap()));
    assert!(list.is_banned("::ffff:10.0.0.1".parse().unwrap()));
}

#[test]
fn bans_are_bounded() {
    let mut bans = Bans::default();
    (0..=MAX_BANS as u32).for_each(|n| bans.add(peer(n).ip()));
    assert!(!bans.has(peer(0).ip()) && bans.has(peer(1).ip()) && bans.has(peer(MAX_BANS as u32).ip()));
    assert_eq!(bans.order.len(), bans.addresses.len());
}
