//! The contract of the store: every test runs on SQLite and, where `MPG_TEST_PG_DSN` names one, on a
//! real Postgres.

mod authority;
mod cluster;
mod harness;

mod admin_users;
mod api_keys;
mod audit_log;
mod call_records;
mod changes;
mod failover;
mod key_rotation;
mod key_usage;
mod leases;
mod lists;
mod oauth;
mod opening;
mod pages;
mod pins;
mod postgres;
mod rollups;
mod rules;
mod schema;
mod sealing;
mod sessions;
mod settings;
mod shared_admin_state;
mod statistics;
mod tls;
mod transactions;
mod unreadable;
mod upstreams;
mod xiaozhi_endpoints;
