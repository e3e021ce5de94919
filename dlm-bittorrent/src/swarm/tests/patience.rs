//! Who is waited for, and for how long.

use super::*;

#[test]
fn nobody_is_blamed_while_we_do_not_read() {
    let mut test = Scripted::new(2, 4);
    let key = test.seed(1);
    let blocks = test.requests(key);
    test.swarm.writing(test.now, key);
    test.pass(SECOND * 400);
    assert_eq!(test.closings(), []);
    assert!(!test.swarm.peer_stats(key).unwrap().snubs);
    test.swarm.written(test.now, key);
    test.pass(SECOND * 15);
    assert!(!test.swarm.peer_stats(key).unwrap().snubs, "its time begins anew");
    let late = test.good(blocks[0]);
    assert!(matches!(test.deliver(key, late), Received::Block { .. }));
    test.pass(SECOND * 70);
    assert!(test.swarm.peer_stats(key).unwrap().snubs, "now it is its own fault");
}
