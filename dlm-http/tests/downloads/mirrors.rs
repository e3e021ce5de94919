//! Several places for one content, of which some are wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dlm_api::{Event, Verification};
use dlm_fault_server::{Ending, Fault, FaultServer, File, Gate, Reply};
use futures::StreamExt;

use crate::harness::{HALF, LEN, Place, assert_honest, client, finish, finish_named, half, sha256};

/// Servers of which the first waits half-way until every other one was asked.
fn beside(first: &File, others: &[&File]) -> Vec<FaultServer> {
    let gate = Gate::new();
    let mut servers = vec![{
        let (first, gate) = (first.clone(), gate.clone());
        FaultServer::start(move |request| {
            let reply = first.reply(request);
            if request.number == 0 { reply.with_gate(HALF, &gate) } else { reply }
        })
    }];
    let missing = Arc::new(AtomicUsize::new(others.len()));
    for other in others {
        let (other, gate, missing) = ((*other).clone(), gate.clone(), missing.clone());
        servers.push(FaultServer::start(move |request| {
            if request.number == 0 && missing.fetch_sub(1, Ordering::Relaxed) == 1 {
                gate.open();
            }
            other.reply(request)
        }));
    }
    servers
}

fn download(servers: &[FaultServer]) -> dlm_api::Download {
    let client = client();
    servers.iter().fold(client.download_from_sources().retries(2), |d, server| d.mirror(server.url("/file.bin")))
}

#[tokio::test]
async fn a_mirror_that_dies_half_way_is_not_missed() {
    let file = File::new(1, LEN);
    let dying = file.clone();
    let dying = FaultServer::start(move |request| match request.number {
        0 => dying.reply(request).with_cut(HALF).with_ending(Ending::Reset),
        _ => Reply::hang_up(),
    });
    let servers = [dying, FaultServer::file(file.clone())];
    let place = Place::new();
    let ended = finish(download(&servers).to_file(&place.file)).await;
    assert_honest("dies", &ended, &place, &servers[1], &[file.content()]);
    assert_eq!(*ended.verification(), Verification::Unverified, "two servers, and no digest");
}

#[tokio::test]
async fn a_mirror_that_lies_is_named_and_the_file_is_right() {
    for liar_first in [true, false] {
        let file = File::new(2, LEN);
        let liar = file.clone().with(Fault::ChangesSilentlyAt(0));
        let servers = if liar_first { beside(&liar, &[&file]) } else { beside(&file, &[&liar]) };
        let place = Place::new();
        let ended = finish(download(&servers).checksum(sha256(&file.content())).to_file(&place.file)).await;
        assert_honest("lies", &ended, &place, &servers[0], &[file.content()]);
        assert_eq!(*ended.verification(), Verification::Digest("sha-256".into()), "{liar_first}");
        let name = servers[usize::from(!liar_first)].url("/file.bin");
        let told = ended.benched().iter().any(|why| why.contains(&name))
            || ended.report().warnings.iter().any(|w| w.contains(&name));
        assert!(told, "{liar_first}: {:#?}", ended.news());
    }
}

#[tokio::test]
async fn mirrors_that_agree_without_a_digest_are_unverified() {
    let file = File::new(3, LEN).with_etag(None).with_modified(None);
    let servers = beside(&file, &[&file]);
    let place = Place::new();
    let ended = finish(download(&servers).to_file(&place.file)).await;
    assert_honest("agree", &ended, &place, &servers[0], &[file.content()]);
    assert_eq!((ended.verification(), ended.restarts()), (&Verification::Unverified, 0));
    assert!(ended.benched().is_empty(), "{:#?}", ended.news());
    assert!(ended.report().sources.iter().all(|s| s.transferred > 0), "both delivered");
}

#[tokio::test]
async fn mirrors_that_differ_are_never_mixed() {
    // In all bytes; and where the second never honours a range, so that nobody asks it for an overlap.
    let file = File::new(4, LEN).with_etag(None).with_modified(None);
    let other = file.clone().with(Fault::ChangesSilentlyAt(0));
    let whole = other.clone().with(Fault::IgnoresRange);
    for (what, second) in [("ranges", &other), ("whole", &whole)] {
        for swapped in [false, true] {
            let servers = if swapped { beside(second, &[&file]) } else { beside(&file, &[second]) };
            let place = Place::new();
            let ended = finish(download(&servers).to_file(&place.file)).await;
            assert_honest(what, &ended, &place, &servers[0], &[file.content(), file.changed_content()]);
            let noticed = !ended.benched().is_empty() || ended.restarts() > 0;
            assert!(noticed, "{what} {swapped}: {:#?}", ended.news());
        }
    }
}

#[tokio::test]
async fn a_mirror_of_another_length_is_set_aside() {
    let (file, longer) = (File::new(5, LEN), File::new(5, LEN + 1));
    let (first, gate) = (file.clone(), Gate::new());
    let servers = {
        let gate = gate.clone();
        [FaultServer::start(move |request| half(&first, request, &gate)), FaultServer::file(longer)]
    };
    let place = Place::new();
    let handle = download(&servers).retries(100).to_file(&place.file).start();
    let mut events = handle.events();
    let set_aside = async move {
        while !matches!(events.next().await, Some(Event::SourceBenched { .. }) | None) {}
        gate.open();
    };
    let ((), ended) = futures::join!(set_aside, finish_named("longer", handle));
    assert_honest("longer", &ended, &place, &servers[0], &[file.content()]);
    assert!(ended.benched().iter().any(|why| why.contains(&servers[1].url(""))), "{:#?}", ended.news());
    assert!(ended.report().sources[1].benched.is_some());
}

#[tokio::test]
async fn two_that_agree_on_a_length_beat_the_one_that_spoke_first() {
    let (file, longer) = (File::new(6, LEN), File::new(7, LEN + 1));
    let servers = beside(&longer, &[&file, &file]);
    let place = Place::new();
    let ended = finish(download(&servers).to_file(&place.file)).await;
    assert_honest("majority", &ended, &place, &servers[0], &[file.content()]);
    assert!(ended.result.is_ok(), "{:?}", ended.result);
    let is_restart = |e: &&Event| matches!(e, Event::Restarted { reason, .. } if reason.contains("length"));
    assert_eq!(ended.events.iter().filter(is_restart).count(), 1, "{:#?}", ended.news());
}
