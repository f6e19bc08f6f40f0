//! Pins: written over, told to followers, and gone with their upstream.

use super::harness::on_each_database;
use super::upstreams::http;
use crate::model::definition::Kind;
use crate::model::pin::{Pin, Review};
use crate::{ChangeKind, changes, pins, upstreams};

on_each_database! {
    async fn a_pin_is_kept_reviewed_and_goes_with_its_upstream(db) {
        let mut tx = db.store.begin().await.expect("begins");
        let upstream = http(db, "a");
        upstreams::insert(&mut tx, &upstream).await.expect("inserts");
        tx.commit().await.expect("commits");
        let pin = |name: &str| Pin {
            upstream_id: upstream.id, kind: Kind::Tool, upstream_name: name.into(), identity: [1; 32], pin: [2; 32],
            approved: None, review: None, found_at: None,
        };
        let mut tx = db.store.begin().await.expect("begins");
        let before = changes::revision(&mut tx).await.expect("reads");
        pins::save(&mut tx, &[pin("x"), pin("y")]).await.expect("saves");
        let changed = Pin {
            approved: Some("{}".into()), review: Some(Review::Changed), found_at: Some(db.now()), ..pin("x")
        };
        pins::save(&mut tx, std::slice::from_ref(&changed)).await.expect("saves");
        tx.commit().await.expect("commits");

        let mut tx = db.store.begin().await.expect("begins");
        let since = changes::since(&mut tx, before).await.expect("reads");
        assert!(matches!(since.entries, crate::Entries::All(all) if all[0].kind == ChangeKind::List));
        assert_eq!(pins::of_list(&mut tx, upstream.id, Kind::Tool).await.expect("reads"), [changed.clone(), pin("y")]);
        assert_eq!(pins::under_review(&mut tx, None).await.expect("reads"), std::slice::from_ref(&changed));
        assert_eq!(pins::under_review(&mut tx, Some(upstream.id)).await.expect("reads"), [changed]);
        assert_eq!(pins::reconfirm(&mut tx, upstream.id, &[1; 32]).await.expect("writes"), 0);
        assert_eq!(pins::reconfirm(&mut tx, upstream.id, &[3; 32]).await.expect("writes"), 1);
        let moved = pins::get(&mut tx, upstream.id, Kind::Tool, "y").await.expect("reads").expect("is there");
        assert_eq!((moved.review, moved.found_at), (Some(Review::Moved), Some(db.now())));
        upstreams::delete(&mut tx, upstream.id).await.expect("deletes");
        assert!(pins::of_list(&mut tx, upstream.id, Kind::Tool).await.expect("reads").is_empty());
    }
}
