//! Sources of every kind, alone and together on one download, over many seeds.

mod common;

use std::time::Duration;

use common::*;
use dlm_api::testkit::{Act, Dag, Peer, Script, Swarm, client_here, content};
use dlm_api::{OnExists, Ranged, Report, Verification};

const PIECE: usize = 64 * KIB;
const SEEDS: u64 = 24;

/// A swarm of the usual kind: an honest seed that is slow, some with a part, one that leaves, one that lies.
fn swarm(seed: u64, files: &[(&str, bytes::Bytes)]) -> Swarm {
    Swarm::new(seed, PIECE as u64, files.iter().cloned())
        .unwrap()
        .with_peer(Peer::seed().with_slowest(Duration::from_millis(200)))
        .with_peer(Peer::seed().with_share(0.6))
        .with_peer(Peer::seed().with_share(0.4))
        .with_peer(Peer::seed().leaving_after(9))
        .with_peer(Peer::seed().corrupt())
}

#[tokio::test(start_paused = true)]
async fn a_swarm_alone() {
    for seed in 0..SEEDS {
        fastrand::seed(seed);
        let bytes = content(seed, 700 * KIB + seed as usize * 977);
        let swarm = swarm(seed, &[("f", bytes.clone())]);
        let memory = memory();
        let handle = client_here().download_from_sources().source(swarm.clone()).to_memory(memory.clone()).start();
        let events = listen(&handle);
        let report = handle.wait().await.unwrap_or_else(|e| panic!("seed {seed}: {}", e.chain()));
        same(first(&memory).unwrap(), &bytes, seed);
        assert_eq!(report.entries[0].verification, Verification::Pieces);
        assert_eq!(benched(&events.await.unwrap()), [], "seed {seed}: a swarm with a lying peer is no liar");
        assert_eq!(swarm.bad_uploads(), [0; 0], "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_dag_alone() {
    for seed in 0..SEEDS {
        fastrand::seed(seed);
        let len = [0, 1, 4096, 300 * KIB][seed as usize % 4] + seed as usize * 31;
        let bytes = content(seed, len);
        let dag = Dag::new(seed, "f", &bytes, 4096 + seed as usize * 7).unwrap().with_lies(seed as usize % 3);
        let memory = memory();
        let report = client_here()
            .download_from_sources()
            .source_of_many(dag.clone())
            .to_memory(memory.clone())
            .await
            .unwrap_or_else(|e| panic!("seed {seed}: {}", e.chain()));
        same(first(&memory).unwrap(), &bytes, seed);
        let checked = if len == 0 { Verification::SameContent } else { Verification::Pieces };
        assert_eq!(report.entries[0].verification, checked, "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_swarm_of_many_files_with_pieces_that_cross_them() {
    let lens = [0, 1, PIECE / 2, 3 * PIECE + 5, PIECE - 6, 17, 2 * PIECE];
    for seed in 0..12 {
        fastrand::seed(seed);
        let dir = tempfile::tempdir().unwrap();
        let names: Vec<String> = (0..lens.len()).map(|i| format!("top/{}/file{i}", i % 3)).collect();
        let files: Vec<_> =
            names.iter().zip(lens).map(|(name, len)| (name.as_str(), content(seed + len as u64, len))).collect();
        let report = client_here()
            .download_from_sources()
            .source_of_many(swarm(seed, &files))
            .on_exists(OnExists::Fail)
            .to_dir(dir.path())
            .await
            .unwrap_or_else(|e| panic!("seed {seed}: {}", e.chain()));
        assert_eq!(report.entries.len(), files.len());
        for (name, bytes) in &files {
            same(std::fs::read(dir.path().join(name)).unwrap(), bytes, format_args!("seed {seed}: {name}"));
        }
        let left = |dir: &std::path::Path| std::fs::read_dir(dir).unwrap().count();
        assert_eq!(left(dir.path()), 1, "nothing is left beside the files");
        assert_eq!((0..3).map(|i| left(&dir.path().join(format!("top/{i}")))).sum::<usize>(), lens.len());
    }
}

/// A mirror that brings `rate` bytes a second.
fn mirror(name: &str, bytes: &bytes::Bytes, rate: u64) -> Script {
    Script::new(&format!("script://{name}/f"), bytes.clone()).unwrap().with_rate(rate).with_chunk(16 * KIB)
}

#[tokio::test(start_paused = true)]
async fn all_kinds_together_and_two_liars() {
    let mut liars = 0;
    for seed in 0..SEEDS {
        fastrand::seed(seed);
        let bytes = content(seed, MIB + seed as usize * 1013);
        let honest = mirror("honest", &bytes, 400_000);
        let liar = mirror("liar", &bytes, 300_000);
        liar.always(Act::LieFrom(seed * 5000));
        // Another liar, that doesn't agree with the first.
        let stranger = mirror("other-liar", &content(seed + 1000, bytes.len()), 500_000);
        let swarm = swarm(seed, &[("f", bytes.clone())]);
        let dag = Dag::new(seed, "f", &bytes, [PIECE / 4, PIECE, 3 * PIECE / 2][seed as usize % 3]).unwrap();
        let memory = memory();
        let mut download = client_here().download_from_sources();
        // Whoever speaks first must not matter.
        for turn in 0..5 {
            download = match (seed + turn) % 5 {
                0 => download.source(Ranged::new(honest.clone())),
                1 => download.source(Ranged::new(liar.clone())),
                2 => download.source(swarm.clone()),
                3 => download.source(Ranged::new(stranger.clone())),
                _ => download.source(dag.clone()),
            };
        }
        let handle = download.to_memory(memory.clone()).start();
        let events = listen(&handle);
        let report = handle.wait().await.unwrap_or_else(|e| panic!("seed {seed}: {}", e.chain()));
        same(first(&memory).unwrap(), &bytes, seed);
        let benched = benched(&events.await.unwrap());
        let wrong: Vec<_> = benched.iter().filter(|(name, _)| !name.contains("liar")).collect();
        assert!(wrong.is_empty(), "seed {seed}: honest sources were benched: {wrong:?}");
        liars += benched.len();
        assert!(delivered(&report) >= bytes.len() as u64);
        assert_eq!(swarm.bad_uploads(), [0; 0], "seed {seed}: sealed bytes changed");
    }
    assert!(liars > SEEDS as usize / 2, "the liar was found {liars} times");
}

fn delivered(report: &Report) -> u64 {
    report.sources.iter().map(|source| source.transferred).sum()
}

/// A piece that fails by a peer's lies and by a mirror's says nothing against its digest: the lies differ.
#[tokio::test(start_paused = true)]
async fn a_digest_is_not_doubted_for_lies_that_differ() {
    for seed in 0..20 {
        fastrand::seed(seed);
        let bytes = content(seed, PIECE);
        let swarm = Swarm::new(seed, PIECE as u64, [("f", bytes.clone())])
            .unwrap()
            .with_peer(Peer::seed().with_slowest(Duration::from_secs(2)))
            .with_peer(Peer::seed().corrupt());
        let memory = memory();
        let mut download = client_here().download_from_sources().source(swarm);
        for liar in 0..3 {
            let lie = content(seed + 100 + liar, bytes.len());
            download = download.source(Ranged::new(mirror(&format!("liar{liar}"), &lie, 100_000)));
        }
        let handle = download.to_memory(memory.clone()).start();
        let events = listen(&handle);
        handle.wait().await.unwrap_or_else(|e| panic!("seed {seed}: {}", e.chain()));
        same(first(&memory).unwrap(), &bytes, seed);
        let benched = benched(&events.await.unwrap());
        assert!(benched.iter().all(|(name, _)| name.contains("liar")), "seed {seed}: {benched:?}");
    }
}

/// A swarm names the digests of another content, and speaks first. The mirrors agree with
/// each other about the same piece.
#[tokio::test(start_paused = true)]
async fn a_forged_swarm_that_speaks_first_is_outvoted() {
    for seed in 0..20 {
        fastrand::seed(seed);
        let bytes = content(seed, PIECE);
        let forged = content(seed + 500, bytes.len());
        let forged =
            Swarm::new(seed, PIECE as u64, [("f", forged)]).unwrap().with_peer(Peer::seed().with_share(0.0).corrupt());
        let memory = memory();
        let mut download = client_here().download_from_sources().source(forged);
        for i in 0..3 {
            download = download.source(Ranged::new(mirror(&format!("honest{i}"), &bytes, 100_000)));
        }
        let report = download.to_memory(memory.clone()).await.unwrap_or_else(|e| panic!("seed {seed}: {}", e.chain()));
        same(first(&memory).unwrap(), &bytes, seed);
        // Who was alone with its bytes for a piece has nobody to speak for it; those who agree are in use again.
        let used: Vec<_> = report.sources.iter().filter(|source| source.benched.is_none()).collect();
        assert!(used.len() >= 2 && used.iter().all(|s| s.source != "swarm"), "seed {seed}: {:?}", report.sources);
    }
}

/// One connection is slow; who is done sooner takes the rest of it.
#[tokio::test(start_paused = true)]
async fn a_slow_mirror_loses_its_tail() {
    let bytes = content(3, 8 * MIB);
    let (fast, slow) = (mirror("fast", &bytes, 2_000_000), mirror("slow", &bytes, 100_000));
    let memory = memory();
    let report = client_here()
        .download_from_sources()
        .source(Ranged::new(slow.clone()))
        .source(Ranged::new(fast.clone()))
        .checksum(sha256(&bytes))
        .connections(1)
        .to_memory(memory.clone())
        .await
        .unwrap();
    same(first(&memory).unwrap(), &bytes, "steal");
    // The slow one was first and took all; alone it would need 80 s.
    assert!(report.elapsed < Duration::from_secs(8), "{:?}", report.elapsed);
    assert!(report.sources.iter().all(|source| source.transferred > 0), "{:?}", report.sources);
    assert!(report.wasted < 64 * KIB as u64, "a steal takes what was not delivered: {}", report.wasted);
}

/// At the end the last pieces of a slow source are raced, in memory: nobody is blamed, and sealed bytes stay.
#[tokio::test(start_paused = true)]
async fn a_piece_of_a_crawling_mirror_is_hedged() {
    for seed in 0..8 {
        fastrand::seed(seed);
        let bytes = content(seed, 3 * MIB);
        let (fast, slow) = (mirror("fast", &bytes, 1_000_000), mirror("slow", &bytes, 10_000));
        let memory = memory();
        let handle = client_here()
            .download_from_sources()
            .source(Ranged::new(slow.clone()))
            .source(Ranged::new(fast.clone()))
            // One piece is too small for a steal, and takes the slow one half a minute.
            .pieces(256 * KIB as u64, pieces(&bytes, 256 * KIB))
            .connections(1)
            .to_memory(memory.clone())
            .start();
        let events = listen(&handle);
        let report = handle.wait().await.unwrap_or_else(|e| panic!("seed {seed}: {}", e.chain()));
        same(first(&memory).unwrap(), &bytes, seed);
        assert!(report.elapsed < Duration::from_secs(12), "seed {seed}: {:?}", report.elapsed);
        let by_fast = report.sources[1].transferred;
        assert!(by_fast >= bytes.len() as u64, "seed {seed}: it brought the slow one's piece, too: {by_fast}");
        assert_eq!(benched(&events.await.unwrap()), [], "seed {seed}");
    }
}
