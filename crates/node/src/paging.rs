//! Lists in pages: bounded in elements, in bytes and in how much one call looks at.
//!
//! A page token is the key of the last element looked at, in hexadecimal. So a list continues where it was whatever was
//! added or deleted meanwhile, on any node, and a token holds nothing that the caller didn't see.

use haltline_core::limits::{
    PAGE_BYTES_MAX, PAGE_SCAN_MAX, PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX, PAGE_TOKEN_BYTES_MAX,
};
use prost::Message;

use crate::refused::Refused;

/// What a caller asks of a list.
#[derive(Debug, Clone)]
pub(crate) struct PageRequest {
    size: usize,
    /// The key after which the page begins.
    pub(crate) after: Option<Vec<u8>>,
}

/// One page.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Page<M> {
    pub(crate) items: Vec<M>,
    /// Empty on the last page.
    pub(crate) next: String,
}

impl PageRequest {
    pub(crate) fn new(size: u32, token: &str) -> Result<Self, Refused> {
        let size = match size {
            0 => PAGE_SIZE_DEFAULT,
            1..=PAGE_SIZE_MAX => size,
            got => return Err(Refused::PageSize { got, max: PAGE_SIZE_MAX }),
        };
        let after = if token.is_empty() { None } else { Some(from_hex(token).ok_or(Refused::PageToken)?) };
        Ok(Self { size: size as usize, after })
    }

    /// The key after which the page begins, as text.
    pub(crate) fn after_text(&self) -> Result<Option<&str>, Refused> {
        self.after.as_deref().map(std::str::from_utf8).transpose().map_err(|_| Refused::PageToken)
    }

    /// The key after which the page begins, as a number.
    pub(crate) fn after_number(&self) -> Result<Option<u64>, Refused> {
        let number = |bytes: &[u8]| bytes.try_into().map(u64::from_be_bytes).map_err(|_| Refused::PageToken);
        self.after.as_deref().map(number).transpose()
    }

    /// Fills a page from elements in the order of their keys, leaving out those that `make` has nothing for.
    pub(crate) fn fill<E, M: Message>(
        &self,
        elements: impl Iterator<Item = E>,
        key: impl Fn(&E) -> Vec<u8>,
        mut make: impl FnMut(&E) -> Option<M>,
    ) -> Page<M> {
        let mut elements = elements.peekable();
        let (mut items, mut bytes, mut looked_at) = (Vec::new(), 0, 0);
        while let Some(element) = elements.next() {
            looked_at += 1;
            if let Some(message) = make(&element) {
                bytes += message.encoded_len();
                items.push(message);
            }
            let is_full = items.len() >= self.size || bytes >= PAGE_BYTES_MAX || looked_at >= PAGE_SCAN_MAX;
            if is_full && elements.peek().is_some() {
                return Page { items, next: to_hex(&key(&element)) };
            }
        }
        Page { items, next: String::new() }
    }
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if digits.len() > PAGE_TOKEN_BYTES_MAX || !digits.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok());
    digits.chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use haltline_wire::v1::GetKillRequest;

    use super::*;

    fn page(numbers: std::ops::RangeInclusive<u64>, size: u32, token: &str) -> Page<GetKillRequest> {
        let request = PageRequest::new(size, token).unwrap();
        let after = request.after_number().unwrap();
        let elements = numbers.filter(|number| after.is_none_or(|after| *number > after));
        let make = |number: &u64| Some(GetKillRequest { kill: *number });
        request.fill(elements, |number| number.to_be_bytes().to_vec(), make)
    }

    #[test]
    fn pages_join_to_the_whole_list() {
        let (mut token, mut seen) = (String::new(), Vec::new());
        loop {
            let page = page(1..=10, 3, &token);
            seen.extend(page.items.iter().map(|item| item.kill));
            token = page.next;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(seen, (1..=10).collect::<Vec<_>>());
        assert!(page(1..=3, 3, "").next.is_empty(), "a full last page has no successor");
    }

    #[test]
    fn a_page_ends_by_bytes_and_by_how_much_was_looked_at() {
        let all = PageRequest::new(PAGE_SIZE_MAX, "").unwrap();
        let big = |_: &u64| Some(haltline_wire::v1::GetFleetRequest { path: "x".repeat(PAGE_BYTES_MAX / 2) });
        assert_eq!(all.fill(0..10, |number| vec![*number as u8], big).items.len(), 2);
        let none = |_: &u64| None::<GetKillRequest>;
        let page = all.fill(0..u64::MAX, |number| number.to_be_bytes().to_vec(), none);
        assert!(page.items.is_empty() && !page.next.is_empty());
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        assert!(matches!(PageRequest::new(PAGE_SIZE_MAX + 1, ""), Err(Refused::PageSize { .. })));
        for token in ["x", "zz", "é", &"00".repeat(PAGE_TOKEN_BYTES_MAX)] {
            assert!(matches!(PageRequest::new(1, token), Err(Refused::PageToken)), "{token}");
        }
        assert!(PageRequest::new(1, "ff").unwrap().after_text().is_err());
        assert!(PageRequest::new(1, "ff").unwrap().after_number().is_err());
    }
}
