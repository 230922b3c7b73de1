//! Lists, page by page, up to a limit.

use haltline_core::limits::PAGE_SIZE_MAX;

use crate::failure::Failure;

/// A list, perhaps cut at the limit.
#[derive(Debug, Clone)]
pub(crate) struct Paged<T> {
    /// The items.
    pub(crate) items: Vec<T>,
    /// Whether there are more.
    pub(crate) more: bool,
}

/// Fetches pages until there are `limit` items (0: no limit) or no more.
///
/// `fetch` takes page size and token, and gives the items and the next token.
///
/// # Errors
/// Those of `fetch`.
pub(crate) async fn all_pages<T, F, R>(limit: u32, mut fetch: F) -> Result<Paged<T>, Failure>
where
    F: FnMut(u32, String) -> R,
    R: Future<Output = Result<(Vec<T>, String), Failure>>,
{
    let mut items = Vec::new();
    let mut token = String::new();
    loop {
        let have = u32::try_from(items.len()).unwrap_or(u32::MAX);
        let size = if limit == 0 { PAGE_SIZE_MAX } else { PAGE_SIZE_MAX.min(limit - have) };
        let (page, next) = fetch(size, token.clone()).await?;
        // An empty page is no end: a node looks at so many items a page, and perhaps none of them fits. But it goes on.
        if !next.is_empty() && next == token {
            return Err(Failure::protocol("a node's list doesn't go on: it sent the same page token twice"));
        }
        items.extend(page);
        let full = limit != 0 && items.len() >= limit as usize;
        if next.is_empty() || full {
            if limit != 0 {
                items.truncate(limit as usize);
            }
            return Ok(Paged { items, more: !next.is_empty() });
        }
        token = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn fetch(limit: u32, total: u32) -> Paged<u32> {
        all_pages(limit, |size, token| async move {
            let from: u32 = token.parse().unwrap_or(0);
            let to = (from + size).min(total);
            let next = if to < total { to.to_string() } else { String::new() };
            Ok(((from..to).collect(), next))
        })
        .await
        .expect("pages")
    }

    #[tokio::test]
    async fn all_or_so_many() {
        let all = fetch(0, 2_500).await;
        assert_eq!((all.items.len(), all.more), (2_500, false));
        let some = fetch(1_700, 2_500).await;
        assert_eq!((some.items.len(), some.more), (1_700, true));
        let exactly = fetch(5, 5).await;
        assert_eq!((exactly.items, exactly.more), (vec![0, 1, 2, 3, 4], false));
        assert!(fetch(10, 0).await.items.is_empty());
    }

    #[tokio::test]
    async fn an_empty_page_is_no_end() {
        let sparse = all_pages(0, |_, token| async move {
            Ok(match token.as_str() {
                "" => (Vec::new(), "on".to_owned()),
                _ => (vec![1], String::new()),
            })
        });
        assert_eq!(sparse.await.expect("pages").items, [1]);
    }

    #[tokio::test]
    async fn an_endless_list_ends() {
        let endless = all_pages::<u32, _, _>(0, |_, _| async { Ok((Vec::new(), "again".to_owned())) });
        assert!(endless.await.is_err());
    }
}
