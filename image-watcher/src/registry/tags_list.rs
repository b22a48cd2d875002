//! The tags of a repository, page by page (OCI distribution specification, "Listing tags"). What a page and its `Link` header say
//! is read by pure functions here: of a link only its `last` and `n` count, so that a registry names the next part of its list and
//! nothing else. A list is whole or an error: a part of it, taken for all, would end apps.

use std::borrow::Cow;
use std::collections::BTreeSet;

use hyper::Method;
use hyper::header::LINK;
use landfall_core::config::TagPattern;
use landfall_core::ids::printable;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

use super::ask_error::Next;
use super::{AskError, MANIFEST_DEADLINE, Question, Registries};

/// How many tags a page is asked for: what registries commonly allow at most.
const PAGE: u32 = 1000;
/// No list has more pages.
const PAGES: usize = 100;
/// No page is larger, bytes.
const PAGE_LIMIT: u64 = 1 << 20;
/// No list has more tags that match.
const MOST: usize = 100_000;
/// Where a page begins: the longest that is believed.
const LAST_LENGTH: usize = 2000;

/// Where the next page begins.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    last: String,
    n: u32,
}

impl Registries {
    /// All tags that match.
    pub async fn tags(&self, pattern: &TagPattern) -> Result<BTreeSet<String>, AskError> {
        // A question is about a repository; which tag of it does not matter here.
        let channel = pattern.channel("list");
        let mut question = Question {
            channel: &channel,
            method: Method::GET,
            path: format!("tags/list?n={PAGE}"),
            accept: "application/json",
            what: format!("tags of `{}/{}`", channel.registry, channel.repository),
            next: Next::Publish,
            limit: PAGE_LIMIT,
            deadline: MANIFEST_DEADLINE,
        };
        let (mut found, mut places) = (BTreeSet::new(), BTreeSet::new());
        loop {
            let answer = self.ask(&question).await?;
            let page = tags_of(&answer.bytes).map_err(|why| question.wrong(why))?;
            found.extend(page.into_iter().filter(|tag| pattern.matches(tag)).map(Cow::into_owned));
            if found.len() > MOST {
                return Err(question.wrong(format!("it has more than {MOST} tags that match `{pattern}`")));
            }
            let links = answer.headers.get_all(LINK).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
            let Some(place) = next_place(links).map_err(|why| question.wrong(why))? else { return Ok(found) };
            question.path =
                format!("tags/list?n={}&last={}", place.n, utf8_percent_encode(&place.last, NON_ALPHANUMERIC));
            let last = printable(&place.last, 120);
            if !places.insert(place.last) {
                return Err(question.wrong(format!("its pages go round in a circle, at `{last}`")));
            }
            if places.len() >= PAGES {
                return Err(question.wrong(format!("its list has more than {PAGES} pages")));
            }
        }
    }
}

#[derive(Deserialize)]
struct Page<'a> {
    // Without `default`: an object that has no `tags` is no list, and null is an empty one.
    #[serde(borrow, deserialize_with = "nullable")]
    tags: Option<Vec<Item<'a>>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Item<'a> {
    Text(#[serde(borrow)] Cow<'a, str>),
    Other(IgnoredAny),
}

fn nullable<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Item<'de>>>, D::Error> {
    Option::deserialize(deserializer)
}

/// The tags of a page, as they stand there.
fn tags_of(bytes: &[u8]) -> Result<Vec<Cow<'_, str>>, String> {
    // serde would take `[null]` for a page.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err("it is no object".to_owned());
    }
    let page: Page<'_> = serde_json::from_slice(bytes).map_err(|error| printable(&error.to_string(), 200))?;
    let tags = page.tags.unwrap_or_default().into_iter().filter_map(|item| match item {
        Item::Text(text) => Some(text),
        Item::Other(_) => None,
    });
    Ok(tags.collect())
}

/// Where the next page begins, by `Link: <…?last=…&n=…>; rel="next"`; none where this was the last page.
fn next_place<'a>(links: impl Iterator<Item = Cow<'a, str>>) -> Result<Option<Place>, String> {
    for header in links {
        let mut rest = &*header;
        while let Some((_, after)) = rest.split_once('<') {
            let Some((target, after)) = after.split_once('>') else { break };
            let parameters = after.split('<').next().unwrap_or_default();
            rest = after;
            if parameters.split([';', ',']).any(is_next) {
                let place = place_of(target);
                return place
                    .map(Some)
                    .ok_or_else(|| format!("the link to its next page, `{}`", printable(target, 200)));
            }
        }
    }
    Ok(None)
}

/// Whether a link's parameter says that it is to the next page.
fn is_next(parameter: &str) -> bool {
    let Some((key, value)) = parameter.split_once('=') else { return false };
    let mut relations = value.trim().trim_matches('"').split_ascii_whitespace();
    key.trim().eq_ignore_ascii_case("rel") && relations.any(|relation| relation.eq_ignore_ascii_case("next"))
}

fn place_of(target: &str) -> Option<Place> {
    let query = target.split_once('?')?.1.split('#').next()?;
    let of = |wanted: &str| query.split('&').find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == wanted));
    let last = percent_decode_str(of("last")?.1).decode_utf8().ok()?.into_owned();
    let n = of("n").and_then(|(_, n)| n.parse().ok()).filter(|n| (1..=PAGE).contains(n)).unwrap_or(PAGE);
    (!last.is_empty() && last.len() <= LAST_LENGTH).then_some(Place { last, n })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_a_list_of_tags_or_an_error() {
        for (page, wanted) in [
            (r#"{"name":"a","tags":["pr-1","pr-2"]}"#, Ok(vec!["pr-1", "pr-2"])),
            (r#"{"tags":[]}"#, Ok(vec![])),
            (r#"{"name":"a","tags":null}"#, Ok(vec![])),
            (r#"{"tags":["a",1,null,{"b":["c"]},["d"],true,"e"],"more":{}}"#, Ok(vec!["a", "e"])),
            // What is no tag is no tag of a pattern.
            (r#"{"tags":["\u001b[2J","../..","\ud83d\ude00"]}"#, Ok(vec!["\u{1b}[2J", "../..", "\u{1f600}"])),
            (r#" {"tags":["a"#, Err("EOF")),
            (r#"{"tags":{"a":1}}"#, Err("invalid type: map")),
            (r#"{"tags":"a"}"#, Err("invalid type: string")),
            (r#"{"errors":[{"code":"DENIED"}]}"#, Err("missing field `tags`")),
            ("[]", Err("no object")),
            ("[null]", Err("no object")),
            ("null", Err("no object")),
            ("<html>", Err("no object")),
            ("", Err("no object")),
        ] {
            match (tags_of(page.as_bytes()), wanted) {
                (Ok(found), Ok(wanted)) => assert_eq!(found, wanted, "{page}"),
                (Err(why), Err(words)) => assert!(why.contains(words), "{page}: {why}"),
                (found, wanted) => panic!("{page}: {found:?}, not {wanted:?}"),
            }
        }
        let deep = format!("{{\"tags\":{}1", "[".repeat(1 << 19));
        assert!(tags_of(deep.as_bytes()).is_err());
    }

    #[test]
    fn only_where_the_next_page_begins_is_taken_from_a_link() {
        let at = |last: &str, n| Ok(Some(Place { last: last.to_owned(), n }));
        let long = format!("</v2/a/tags/list?last={}>; rel=next", "x".repeat(LAST_LENGTH + 1));
        for (link, wanted) in [
            (r#"</v2/a/tags/list?last=pr-9&n=100>; rel="next""#, at("pr-9", 100)),
            (r"<https://evil.example/else?n=5&last=a%2Bb>;rel=next", at("a+b", 5)),
            (r#"</x?last=p>; title="a"; REL="prev Next""#, at("p", PAGE)),
            (r#"</x?last=q>; rel="prev", </x?last=r&n=7>; rel="next""#, at("r", 7)),
            (r#"</x?last=a&n=0>; rel="next""#, at("a", PAGE)),
            (r#"</x?last=a&n=99999999999>; rel="next""#, at("a", PAGE)),
            (r#"</x?last=a%0d%0aHost:%20b%1b&n=-1#n=2>; rel="next""#, at("a\r\nHost: b\u{1b}", PAGE)),
            (r#"</x?last=a>; rel="prev""#, Ok(None)),
            ("</x?last=a", Ok(None)),
            ("", Ok(None)),
            ("<<<<>>>>;,;,=rel", Ok(None)),
            (r#"</x?n=5>; rel="next""#, Err(())),
            (r#"</x?last=>; rel="next""#, Err(())),
            (r#"</x?last=%ff>; rel="next""#, Err(())),
            (r#"<>; rel="next""#, Err(())),
            (&long, Err(())),
        ] {
            let found = next_place([Cow::Borrowed(link)].into_iter());
            assert_eq!(found.map_err(|_| ()), wanted, "{link}");
        }
    }
}
