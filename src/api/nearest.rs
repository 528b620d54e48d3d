//! What somebody may have meant who wrote a name that there is not: the nearest route, the nearest field.

use strsim::damerau_levenshtein;

/// The name that is most like this one, unless none is.
pub(super) fn nearest<'n>(wanted: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    nearest_by(wanted, names, |name| name)
}

/// The same for what has a name among other things.
pub(super) fn nearest_by<'n, T: Copy + 'n>(
    wanted: &str,
    all: impl IntoIterator<Item = T>,
    name: impl Fn(T) -> &'n str,
) -> Option<T> {
    // A long name would take long to compare, and is none of ours.
    let wanted = wanted.get(..LENGTH_MAX).unwrap_or(wanted);
    let distances = all.into_iter().map(|one| (damerau_levenshtein(wanted, name(one)), one));
    let (distance, found) = distances.min_by_key(|(distance, _)| *distance)?;
    (distance <= 1 + name(found).len() / 3).then_some(found)
}

const LENGTH_MAX: usize = 64;

/// The route that this path behind the prefix is most like.
pub(super) fn nearest_route(path: &str, routes: &[&'static str]) -> Option<&'static str> {
    nearest_by(path, routes.iter().copied(), |route: &'static str| route.split_once(' ').map_or("", |(_, path)| path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::operations::OPERATIONS;

    #[test]
    fn what_is_like_it_is_found_and_nothing_else() {
        let routes: Vec<_> = OPERATIONS.iter().map(|operation| operation.route).collect();
        for (path, route) in [
            ("emitt", Some("POST emit")),
            ("emit/", Some("POST emit")),
            ("emit/bach", Some("POST emit/batch")),
            ("room/join", Some("POST rooms/join")),
            ("users/:userId/status", Some("GET user/:userId/status")),
            ("stat", Some("GET stats")),
            ("something/else/entirely", None),
            ("", None),
        ] {
            assert_eq!(nearest_route(path, &routes), route, "{path}");
        }
        assert_eq!(nearest("evnt", ["event", "data"]), Some("event"));
        assert_eq!(nearest("colour", ["event", "data"]), None);
        assert_eq!(nearest(&"é".repeat(1000), ["event", "data"]), None);
    }
}
