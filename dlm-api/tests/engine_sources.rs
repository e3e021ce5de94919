//! Sources of every kind, alone and together on one download, over many seeds.

mod common;

use std::time::Duration;

use common::*;
use dlm_api::testkit::{Act, Dag, Peer, Script, Swarm, client_here, content};
use dlm_api::{OnExists, Ranged, Report, Verification};

const PIECE: usize = 64 * KIB;
const SEEDS: u64 = 40;

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
        let mut events = handle.events();
        let report = handle.wait().await.unwrap_or_else(|e| panic!("seed {seed}: {}", e.chain()));
        assert_eq!(first(&memory).unwrap(), bytes, "seed {seed}");
        assert_eq!(report.entries[0].verification, Verification::Pieces);
        assert_eq!(benched(&told(&mut events)), [], "seed {seed}: a swarm with a lying peer is no liar");
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
        assert_eq!(first(&memory).unwrap(), bytes, "seed {seed}");
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
            assert_eq!(std::fs::read(dir.path().join(name)).unwrap(), bytes[..], "seed {seed}: {name}");
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
async fn all_kinds_together_and_a_liar() {
    let mut liars = 0;
    for seed in 0..SEEDS {
        fastrand::seed(seed);
        let bytes = content(seed, MIB + seed as usize * 1013);
        let honest = mirror("honest", &bytes, 400_000);
        let liar = mirror("liar", &bytes, 300_000);
        liar.always(Act::LieFrom(seed * 5000));
        let swarm = swarm(seed, &[("f", bytes.clone())]);
        let dag = Dag::new(seed, "f", &bytes, [PIECE / 4, PIECE, 3 * PIECE / 2][seed as usize % 3]).unwrap();
        let memory = memory();
        let mut download = client_here().download_from_sources();
        // Whoever speaks first must not matter.
        for turn in 0..4 {
            download = match (seed + turn) % 4 {
                0 => download.source(Ranged::new(honest.clone())),
                1 => download.source(Ranged::new(liar.clone())),
                2 => download.source(swarm.clone()),
                _ => download.source(dag.clone()),
            };
        }
        let handle = download.to_memory(memory.clone()).start();
        let mut events = handle.events();
        let report = handle.wait().await.unwrap_or_else(|e| panic!("seed {seed}: {}", e.chain()));
        assert_eq!(first(&memory).unwrap(), bytes, "seed {seed}");
        let benched = benched(&told(&mut events));
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
