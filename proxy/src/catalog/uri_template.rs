//! Whether a URI is an instance of a template (RFC 6570), to find whose resource it is.
//!
//! Only routing hangs on it: the upstream decides what the URI means. So an expression matches any
//! text that its operator can produce, and the literal parts must stand where they stand.

/// Whether `uri` could be an expansion of `template`. A template that isn't well-formed matches nothing.
pub(crate) fn matches(template: &str, uri: &str) -> bool {
    let Some(parts) = parse(template) else { return false };
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

/// Each expression takes as little as it can and gives back to the one before: linear in practice, and
/// at worst the product of the lengths, since a position in the template meets a position in the URI once.
fn matches_parts(parts: &[Part<'_>], uri: &str) -> bool {
    let (mut p, mut u) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        let advanced = match parts.get(p) {
            None if u == uri.len() => return true,
            Some(Part::Literal(text)) if uri[u..].starts_with(text) => {
                p += 1;
                u += text.len();
                true
            }
            None | Some(Part::Literal(_)) => false,
            Some(Part::Expression { .. }) => {
                retry = Some((p, u));
                p += 1;
                true
            }
        };
        if advanced {
            continue;
        }
        // The last expression takes one character more, unless that is a slash it can't hold.
        let Some((expression, from)) = retry else { return false };
        let Some(next) = uri[from..].chars().next() else { return false };
        if next == '/' && parts[expression] == (Part::Expression { slashes: false }) {
            return false;
        }
        u = from + next.len_utf8();
        retry = Some((expression, u));
        p = expression + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

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
    fn what_is_not_a_template_matches_nothing_else() {
        assert!(matches("a://b", "a://b"));
        assert!(!matches("a://{b", "a://x"));
        assert!(!matches("a://{b}-{c}", "a://x"));
        assert!(matches("a://{b}-{c}", "a://x-y-z"));
    }
}
