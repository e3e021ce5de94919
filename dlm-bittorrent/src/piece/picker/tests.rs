use fastrand::Rng;
use proptest::prelude::*;

use super::*;

const PIECES: u32 = 70;

/// What may happen to a picker.
#[derive(Clone, Debug)]
enum Op {
    Join(Vec<u32>),
    Leave(usize),
    SeedJoin,
    SeedLeave,
    Have(usize, u32),
    Take(u32),
    PutBack(u32),
    Done(u32),
    SetPriority(u32, u8),
    Pick(usize),
    PickOfSeed,
}

fn op() -> impl Strategy<Value = Op> {
    let piece = 0..PIECES;
    prop_oneof![
        prop::collection::vec(0..PIECES, 0..600).prop_map(Op::Join),
        any::<usize>().prop_map(Op::Leave),
        Just(Op::SeedJoin),
        Just(Op::SeedLeave),
        (any::<usize>(), piece.clone()).prop_map(|(peer, piece)| Op::Have(peer, piece)),
        piece.clone().prop_map(Op::Take),
        piece.clone().prop_map(Op::PutBack),
        piece.clone().prop_map(Op::Done),
        (piece, 0..8u8).prop_map(|(piece, level)| Op::SetPriority(piece, level)),
        any::<usize>().prop_map(Op::Pick),
        Just(Op::PickOfSeed),
    ]
}

/// The same by brute force.
#[derive(Default)]
struct Model {
    peers: Vec<Bitfield>,
    seeds: u32,
    had: Vec<u32>,
    taken: Vec<u32>,
    priorities: HashMap<u32, u8>,
}

impl Model {
    fn priority(&self, piece: u32) -> u8 {
        self.priorities.get(&piece).copied().unwrap_or(4)
    }

    fn is_free(&self, piece: u32) -> bool {
        !self.had.contains(&piece) && !self.taken.contains(&piece) && self.priority(piece) > 0
    }

    fn rank(&self, piece: u32) -> (u8, usize) {
        (7 - self.priority(piece), self.peers.iter().filter(|peer| peer.has(piece)).count())
    }

    /// The rank that the best piece of such a peer has.
    fn best(&self, has: Has<'_>) -> Option<(u8, usize)> {
        (0..PIECES).filter(|piece| self.is_free(*piece) && has.has(*piece)).map(|piece| self.rank(piece)).min()
    }
}

fn run(ops: Vec<Op>, seed: u64) {
    let mut picker = Picker::new(Bitfield::new(PIECES), Rng::with_seed(seed));
    let mut model = Model::default();
    for op in ops {
        match op {
            Op::Join(pieces) => {
                let mut bits = Bitfield::new(PIECES);
                pieces.into_iter().for_each(|piece| _ = bits.insert(piece));
                picker.joined(&bits);
                model.peers.push(bits);
            }
            Op::Leave(peer) if !model.peers.is_empty() => {
                let bits = model.peers.swap_remove(peer % model.peers.len());
                picker.left(&bits);
            }
            Op::Have(peer, piece) if !model.peers.is_empty() => {
                let peer = peer % model.peers.len();
                if model.peers[peer].insert(piece) {
                    picker.have(piece);
                }
            }
            Op::SeedJoin => {
                model.seeds += 1;
                picker.seed_joined();
            }
            Op::SeedLeave => {
                model.seeds = model.seeds.saturating_sub(1);
                picker.seed_left();
            }
            Op::Take(piece) => {
                if model.is_free(piece) {
                    model.taken.push(piece);
                }
                picker.take(piece);
            }
            Op::PutBack(piece) => {
                model.taken.retain(|taken| *taken != piece);
                picker.put_back(piece);
            }
            Op::Done(piece) => {
                model.had.push(piece);
                picker.done(piece);
            }
            Op::SetPriority(piece, level) => {
                if model.priority(piece) == 0 || level == 0 {
                    model.taken.retain(|taken| *taken != piece);
                }
                model.priorities.insert(piece, level);
                picker.set_priority(piece, Priority::new(level));
            }
            Op::Pick(peer) if !model.peers.is_empty() => {
                let has = Has::Pieces(&model.peers[peer % model.peers.len()]);
                let picked = picker.pick(has);
                assert!(picked.is_none_or(|piece| model.is_free(piece) && has.has(piece)));
                assert_eq!(picked.map(|piece| model.rank(piece)), model.best(has));
            }
            Op::PickOfSeed => {
                let picked = picker.pick(Has::All);
                assert_eq!(picked.map(|piece| model.rank(piece)), model.best(Has::All));
            }
            Op::Leave(_) | Op::Have(..) | Op::Pick(_) => {}
        }
        check(&mut picker, &model);
    }
}

fn check(picker: &mut Picker, model: &Model) {
    for piece in 0..PIECES {
        let have = model.peers.iter().filter(|peer| peer.has(piece)).count() as u32;
        assert_eq!(picker.availability(piece), have + model.seeds);
        assert_eq!(picker.free().has(piece), model.is_free(piece), "{piece}");
        assert_eq!(picker.places[piece as usize] != NOWHERE, model.is_free(piece));
    }
    let least = (0..PIECES).map(|piece| picker.availability(piece)).min().unwrap();
    let more = (0..PIECES).filter(|piece| picker.availability(*piece) > least).count();
    assert_eq!(picker.copies(), Copies { whole: least, fraction: more as f32 / PIECES as f32 });
}

proptest! {
    #[test]
    fn the_rarest_of_the_most_wanted_is_picked(ops in prop::collection::vec(op(), 0..80), seed: u64) {
        run(ops, seed);
    }
}

#[test]
fn equal_peers_pick_different_pieces() {
    let picks: BTreeSet<u32> =
        (0..20).filter_map(|seed| Picker::new(Bitfield::new(1000), Rng::with_seed(seed)).pick(Has::All)).collect();
    assert!(picks.len() > 15, "{picks:?}");
}

#[test]
fn in_order_when_told_and_by_deadline_before_that() {
    let mut picker = Picker::new(Bitfield::new(300), Rng::with_seed(1));
    picker.set_order(Order::Sequential);
    let now = Instant::now();
    let later = now + std::time::Duration::from_secs(1);
    picker.set_deadline(200, Some(later));
    picker.set_deadline(250, Some(now));
    let mut odd = Bitfield::new(300);
    (0..150).for_each(|n| _ = odd.insert(2 * n + 1));
    assert_eq!(picker.pick(Has::Pieces(&odd)), Some(1), "200 and 250 are none of its pieces");
    let mut order = Vec::new();
    for _ in 0..5 {
        let piece = picker.pick(Has::All).unwrap();
        picker.take(piece);
        order.push(piece);
    }
    assert_eq!(order, [250, 200, 0, 1, 2]);
    picker.put_back(1);
    assert_eq!(picker.pick(Has::All), Some(1));
    picker.put_back(250);
    picker.set_deadline(250, None);
    assert_eq!(picker.pick(Has::All), Some(1));
}

#[test]
fn deadlines_are_bounded_and_the_latest_goes() {
    let mut picker = Picker::new(Bitfield::new(2000), Rng::with_seed(1));
    let now = Instant::now();
    for piece in (0..2000).rev() {
        picker.set_deadline(piece, Some(now + std::time::Duration::from_secs(piece.into())));
    }
    assert!(picker.urgent().eq(0..MAX_DEADLINES as u32));
    assert_eq!(picker.deadline_of.len(), MAX_DEADLINES);
}

#[test]
fn a_peer_with_few_of_the_free_pieces_is_served_without_a_search_of_all() {
    let pieces = 100_000;
    let mut picker = Picker::new(Bitfield::new(pieces), Rng::with_seed(1));
    let mut bits = Bitfield::new(pieces);
    [5, 50_000, 99_999].into_iter().for_each(|piece| _ = bits.insert(piece));
    picker.joined(&bits);
    picker.have(5);
    picker.have(99_999);
    assert_eq!(picker.pick(Has::Pieces(&bits)), Some(50_000));
}

#[test]
fn sixteen_bytes_a_piece_are_enough() {
    let pieces = 1 << 21;
    let picker = Picker::new(Bitfield::new(pieces), Rng::with_seed(1));
    let orders: usize = picker.levels.iter().map(|level| level.order.capacity() * 4 + level.ends.capacity() * 4).sum();
    let bytes = orders + picker.places.capacity() * 4 + picker.counts.capacity() * 2 + picker.priorities.capacity();
    assert!(bytes + 3 * pieces as usize / 8 <= 16 * pieces as usize, "{bytes}");
}
