//! The bodies of the REST API, as the control plane reads and redacts them: one parser for both ways in.

pub(super) use admin::declared::{
    alias_diff, filter_diff, key_diff, parse_alias as alias, parse_filter as filter, parse_key as key,
    parse_upstream as upstream, parse_xiaozhi as xiaozhi, settings_diff, upstream_diff, xiaozhi_diff,
};
