use super::*;

fn begun(any: Instant, urgent: Option<Instant>) -> Begun {
    Begun { any: Some(any), urgent }
}

#[test]
fn the_first_after_a_pause_waits_for_nothing() {
    for urgency in [Urgency::Background, Urgency::Revocation, Urgency::Kill] {
        assert_eq!(due(urgency, Begun::default(), 10_000), None);
    }
    let now = Instant::now();
    assert_eq!(due(Urgency::Kill, begun(now, None), 10_000), None, "kills wait for kills only");
}

#[test]
fn distances_grow_with_the_streams_up_to_a_bound() {
    let now = Instant::now();
    let after = |urgency, places| due(urgency, begun(now, Some(now)), places).map(|due| due - now);
    assert_eq!(after(Urgency::Background, 10_000), Some(Duration::from_millis(250)));
    assert_eq!(after(Urgency::Revocation, 100), Some(Duration::from_micros(2_500)));
    assert_eq!(after(Urgency::Kill, 10_000), Some(Duration::from_millis(20)));
    assert_eq!(after(Urgency::Background, 1_000_000), Some(Duration::from_millis(HUB_PACE_MAX.0)));
}

#[test]
fn what_waits_takes_the_most_pressing_urgency_and_the_newest_event() {
    let fanout = Fanout::default();
    fanout.announce(EventSeq(3), Urgency::Kill);
    fanout.announce(EventSeq(5), Urgency::Background);
    let mut begun = Begun::default();
    assert!(fanout.due(begun).is_some_and(|due| due <= Instant::now()));
    fanout.release(&mut begun);
    assert_eq!(fanout.released(), EventSeq(5));
    assert!(begun.urgent.is_some());
    assert_eq!(fanout.due(begun), None);
}
