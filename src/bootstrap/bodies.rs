//! The bodies of the REST API, as the control plane reads and redacts them: one parser for both ways in.

pub(super) use admin::declared::{
    key_diff, parse_key as key, parse_upstream as upstream, settings_diff, upstream_diff,
};
