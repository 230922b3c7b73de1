//! What is written: the same amount for every system, over the same number of keys.
//!
//! Haltline gets `AgentUpdate` commands, which give one of [`KEYS`] registered agents new labels; its encoding in the log
//! is [`PAYLOAD_BYTES`] long. etcd gets puts of as many bytes, key and value together, over as many keys.

/// Bytes of one operation: the command's encoding, or key and value.
pub(crate) const PAYLOAD_BYTES: usize = 128;
/// Agents, or keys, that are written to in turn.
pub(crate) const KEYS: u64 = 10_000;
/// Agents that a light writer changes in turn.
pub(crate) const LIGHT_KEYS: u64 = 16;
/// The fleet of the agents.
pub(crate) const FLEET: &str = "bench/load";

/// Bytes of the label that fills a command up to [`PAYLOAD_BYTES`].
const FILLER_BYTES: usize = 54;

/// Coprime to [`KEYS`], so that neighbouring operations touch distant keys and yet every key gets its turn.
const STRIDE: u64 = 7_919;

/// The agent that the operation of this number changes.
pub(crate) fn agent_path(number: u64) -> String {
    format!("{FLEET}/agent-{:05}", number % KEYS * STRIDE % KEYS)
}

/// Sixteen bytes that differ for every number, and look as random as the ids of real clients: a table that is kept in
/// order must not profit from ids that come in order.
pub(crate) fn scattered(run: u64, number: u64) -> [u8; 16] {
    // The finalizer of SplitMix64, a bijection.
    let mix = |value: u64| {
        let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    };
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&mix(number.wrapping_add(run)).to_be_bytes());
    bytes[8..].copy_from_slice(&run.to_be_bytes());
    bytes
}

/// The labels that it gets, which differ from one operation to the next.
pub(crate) fn labels(number: u64) -> [(&'static str, String); 2] {
    [("build", format!("{number:034}")), ("notes", "n".repeat(FILLER_BYTES))]
}

/// The operation of this number as a key and a value.
pub(crate) fn key_and_value(number: u64) -> (Vec<u8>, Vec<u8>) {
    let key = agent_path(number).into_bytes();
    let mut value = format!("{number:020}").into_bytes();
    value.resize(PAYLOAD_BYTES - key.len(), b'n');
    (key, value)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use haltline_core::{
        command::{AgentUpdate, Command},
        text::Labels,
    };

    use super::*;

    fn command(number: u64) -> Command {
        Command::AgentUpdate(AgentUpdate {
            path: agent_path(number).parse().unwrap(),
            labels: Labels::from_pairs(labels(number)).unwrap(),
            expected_version: None,
        })
    }

    #[test]
    fn every_operation_has_the_same_size_for_both_systems() {
        for number in [0, 1, 9_999, 10_000, 123_456_789] {
            let (key, value) = key_and_value(number);
            assert_eq!(key.len() + value.len(), PAYLOAD_BYTES);
            let encoded = postcard::to_stdvec(&command(number)).unwrap();
            assert_eq!(encoded.len(), PAYLOAD_BYTES);
        }
    }

    #[test]
    fn neighbours_differ_in_key_and_value() {
        assert_ne!(key_and_value(1).0, key_and_value(2).0);
        assert_eq!(agent_path(3), agent_path(KEYS + 3));
        assert_ne!(key_and_value(3).1, key_and_value(KEYS + 3).1);
    }

    #[test]
    fn every_key_gets_its_turn_and_no_id_repeats() {
        let paths: std::collections::BTreeSet<String> = (0..KEYS).map(agent_path).collect();
        assert_eq!(paths.len() as u64, KEYS);
        let ids: std::collections::BTreeSet<[u8; 16]> =
            (0..KEYS).map(|number| scattered(7, number)).collect();
        assert_eq!(ids.len() as u64, KEYS);
    }
}
