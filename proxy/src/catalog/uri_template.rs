//! Whether a URI is an instance of a template (RFC 6570), to find whose resource it is.
//!
//! Only routing hangs on it: the upstream decides what the URI means. So an expression matches any
//! text that its operator can produce, and the literal parts must stand where they stand.

/// A longer URI is an instance of no template: it is matched against every one of them.
const URI_BYTES_MAX: usize = 4096;

/// A template of more parts matches nothing: with the length of a URI they bound what a match costs, and those who
/// write both may mean harm.
const PARTS_MAX: usize = 64;

/// Whether `uri` could be an expansion of `template`. A template that isn't well-formed matches nothing.
pub(crate) fn matches(template: &str, uri: &str) -> bool {
    if uri.len() > URI_BYTES_MAX {
        return false;
    }
    let Some(parts) = parse(template).filter(|parts| parts.len() <= PARTS_MAX) else { return false };
    matches_parts(&parts, uri)
}

#[derive(Debug, PartialEq)]
enum Part<'a> {
    Literal(&'a str),
    /// Text without `/`, or with it where the operator keeps reserved characters.
    Expression {
        slashes: bool,
    },
}

fn parse(template: &str) -> Option<Vec<Part<'_>>> {
    let mut parts = Vec::new();
    let mut rest = template;
    while let Some(open) = rest.find('{') {
        let close = open + rest[open..].find('}')?;
        if open > 0 {
            parts.push(Part::Literal(&rest[..open]));
        }
        let expression = &rest[open + 1..close];
        let slashes = expression.starts_with(['+', '#', '/', '?', '&']) || expression.contains('*');
        parts.push(Part::Expression { slashes });
        rest = &rest[close + 1..];
    }
    if !rest.is_empty() {
        parts.push(Part::Literal(rest));
    }
    Some(parts)
}

/// Which ends of the URI's beginnings each part can reach, part by part: every split is tried, in time
/// bounded by the product of the lengths.
fn matches_parts(parts: &[Part<'_>], uri: &str) -> bool {
    let mut reached = vec![false; uri.len() + 1];
    reached[0] = true;
    for part in parts {
        let mut next = vec![false; uri.len() + 1];
        match part {
            Part::Literal(text) => {
                for at in (0..=uri.len()).filter(|at| reached[*at]) {
                    if uri[at..].starts_with(text) {
                        next[at + text.len()] = true;
                    }
                }
            }
            Part::Expression { slashes } => {
                let mut open = false;
                for (at, char) in uri.char_indices().chain([(uri.len(), '\0')]) {
                    open |= reached[at];
                    next[at] = open;
                    // What is taken further must be able to hold this character.
                    open &= *slashes || char != '/';
                }
            }
        }
        if !next.contains(&true) {
            return false;
        }
        reached = next;
    }
    reached[uri.len()]
}

#[cfg(test)]
mod tests {
    use super::{URI_BYTES_MAX, matches};

    #[test]
    fn an_expression_takes_one_segment() {
        assert!(matches("test://template/{id}/data", "test://template/123/data"));
        assert!(!matches("test://template/{id}/data", "test://template/1/2/data"));
        assert!(!matches("test://template/{id}/data", "test://template/123"));
        assert!(!matches("test://other/{id}", "test://template/123"));
    }

    #[test]
    fn a_reserved_expression_takes_slashes_too() {
        assert!(matches("file:///{+path}", "file:///a/b/c.txt"));
        assert!(matches("file:///{path*}", "file:///a/b"));
        assert!(matches("db://{table}{?limit}", "db://users?limit=3"));
    }

    #[test]
    fn every_split_is_tried() {
        assert!(matches("file:///{+folder}/{name}", "file:///a/b/c.txt"));
        assert!(matches("x://{+a}-{b}.{c}", "x://1/2-3-4.5"));
        assert!(matches("x://{a}", "x://äöü"));
        assert!(!matches("x://{+a}/{b}", "x://a"));
    }

    #[test]
    fn a_template_of_too_many_parts_matches_nothing() {
        assert!(matches(&"{+a}".repeat(64), "x"));
        assert!(!matches(&"{+a}".repeat(65), "x"));
    }

    #[test]
    fn a_hostile_uri_costs_little() {
        let template = "x://{+a}a{+b}a{+c}a{+d}a{+e}b";
        assert!(!matches(template, &format!("x://{}", "a".repeat(URI_BYTES_MAX - 4))));
        assert!(!matches("x://{+a}", &format!("x://{}", "a".repeat(URI_BYTES_MAX))));
    }

    #[test]
    fn what_is_not_a_template_matches_nothing_else() {
        assert!(matches("a://b", "a://b"));
        assert!(!matches("a://{b", "a://x"));
        assert!(!matches("a://{b}-{c}", "a://x"));
        assert!(matches("a://{b}-{c}", "a://x-y-z"));
    }
}
