//! Administrators: exactly one is the first, and tokens end when they should.

use std::time::Duration;

use futures::future::join_all;

use super::harness::{TestDatabase, on_each_database};
use crate::admin_users;
use crate::error::StoreError;
use crate::model::admin_user::{AdminToken, AdminUser};
use crate::model::ids::{AdminUserId, TokenId};
use crate::model::secret::Secret;

fn admin(db: &TestDatabase, username: &str) -> AdminUser {
    AdminUser {
        id: AdminUserId::new(&db.clock),
        username: username.into(),
        password_hash: Secret::from("$2b$12$hash"),
        created_at: db.now(),
        updated_at: db.now(),
    }
}

fn token(db: &TestDatabase, admin: &AdminUser) -> AdminToken {
    AdminToken {
        id: TokenId::new(&db.clock),
        admin_id: admin.id,
        issued_at: db.now(),
        expires_at: db.now().plus(Duration::from_hours(1)),
        address: "127.0.0.1".parse().ok(),
        user_agent: "curl/8".into(),
    }
}

async fn register(db: &TestDatabase, number: usize) -> bool {
    let mut tx = db.store.begin().await.expect("begins");
    let first = admin_users::insert_first(&mut tx, &admin(db, &format!("admin{number}"))).await;
    let first = first.expect("is answered");
    tx.commit().await.expect("commits");
    first
}

on_each_database! {
    async fn of_fifty_registrations_at_once_one_succeeds(db) {
        let registered = join_all((0..50).map(|number| register(db, number))).await;
        assert_eq!(registered.iter().filter(|first| **first).count(), 1);
        let mut tx = db.store.read().await.expect("reads");
        assert_eq!(admin_users::count(&mut tx).await.expect("reads"), 1);
    }

    async fn an_administrator_is_found_by_name_and_id(db) {
        let mut admin = admin(db, "Root");
        let mut tx = db.store.begin().await.expect("begins");
        assert_eq!(admin_users::count(&mut tx).await.expect("reads"), 0);
        assert!(admin_users::insert_first(&mut tx, &admin).await.expect("inserts"));
        assert_eq!(admin_users::by_username(&mut tx, "Root").await.expect("reads").as_ref(), Some(&admin));
        assert_eq!(admin_users::by_username(&mut tx, "root").await.expect("reads"), None);
        assert_eq!(admin_users::by_username(&mut tx, "\0").await.expect("reads"), None);
        let later = db.now().plus(Duration::from_secs(5));
        let changed = Secret::from("$2b$12$other");
        assert!(admin_users::set_password(&mut tx, admin.id, &changed, later).await.expect("sets"));
        admin.password_hash = changed;
        admin.updated_at = later;
        assert_eq!(admin_users::get(&mut tx, admin.id).await.expect("reads").as_ref(), Some(&admin));
        let nobody = AdminUserId::new(&db.clock);
        assert!(!admin_users::set_password(&mut tx, nobody, &admin.password_hash, later).await.expect("is nobody"));
    }

    async fn tokens_end_one_by_one_or_all_but_one(db) {
        let admin = admin(db, "root");
        let mut tx = db.store.begin().await.expect("begins");
        admin_users::insert_first(&mut tx, &admin).await.expect("inserts");
        let tokens = [token(db, &admin), token(db, &admin), token(db, &admin)];
        for token in &tokens {
            admin_users::insert_token(&mut tx, token).await.expect("inserts");
        }
        assert_eq!(admin_users::token(&mut tx, tokens[0].id).await.expect("reads").as_ref(), Some(&tokens[0]));
        assert_eq!(admin_users::tokens_of(&mut tx, admin.id).await.expect("reads").len(), 3);
        assert!(admin_users::delete_token(&mut tx, tokens[0].id).await.expect("deletes"));
        assert!(!admin_users::delete_token(&mut tx, tokens[0].id).await.expect("is gone"));
        assert_eq!(admin_users::token(&mut tx, tokens[0].id).await.expect("reads"), None);
        assert_eq!(admin_users::delete_tokens_of(&mut tx, admin.id, Some(tokens[1].id)).await.expect("deletes"), 1);
        assert_eq!(admin_users::tokens_of(&mut tx, admin.id).await.expect("reads"), [tokens[1].clone()]);
        assert_eq!(admin_users::delete_tokens_of(&mut tx, admin.id, None).await.expect("deletes"), 1);
    }

    async fn a_new_token_sweeps_the_expired_ones(db) {
        let admin = admin(db, "root");
        let mut tx = db.store.begin().await.expect("begins");
        admin_users::insert_first(&mut tx, &admin).await.expect("inserts");
        admin_users::insert_token(&mut tx, &token(db, &admin)).await.expect("inserts");
        db.clock.advance(Duration::from_hours(1));
        let fresh = token(db, &admin);
        admin_users::insert_token(&mut tx, &fresh).await.expect("inserts");
        assert_eq!(admin_users::tokens_of(&mut tx, admin.id).await.expect("reads"), [fresh]);
    }

    async fn a_token_needs_its_administrator(db) {
        let mut tx = db.store.begin().await.expect("begins");
        let refused = admin_users::insert_token(&mut tx, &token(db, &admin(db, "nobody"))).await;
        let refused = refused.expect_err("has no administrator");
        assert!(matches!(refused, StoreError::Conflict { constraint } if constraint == StoreError::FOREIGN_KEY));
    }
}
