//! Reading the state's tables back from a snapshot.
//!
//! The maps' own deserializer reserves as much memory as the bytes claim to hold, so a flipped bit in a length would end
//! the process. This one believes no length, and takes only what [`crate::snapshot::encode`] writes: keys in order, once.

use std::{fmt, marker::PhantomData};

use imbl::OrdMap;
use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor},
};

/// Reads one table; for `#[serde(deserialize_with = …)]`.
pub(crate) fn read<'de, K, V, D>(deserializer: D) -> Result<OrdMap<K, V>, D::Error>
where
    K: Deserialize<'de> + Ord + Clone,
    V: Deserialize<'de> + Clone,
    D: Deserializer<'de>,
{
    deserializer.deserialize_map(Rows(PhantomData))
}

struct Rows<K, V>(PhantomData<(K, V)>);

impl<'de, K, V> Visitor<'de> for Rows<K, V>
where
    K: Deserialize<'de> + Ord + Clone,
    V: Deserialize<'de> + Clone,
{
    type Value = OrdMap<K, V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table with its keys in order")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut rows: A) -> Result<Self::Value, A::Error> {
        let mut table = OrdMap::new();
        let mut last: Option<K> = None;
        while let Some((key, value)) = rows.next_entry::<K, V>()? {
            if last.is_some_and(|last| last >= key) {
                return Err(A::Error::custom("a table's keys are out of order"));
            }
            last = Some(key.clone());
            table.insert(key, value);
        }
        Ok(table)
    }
}
