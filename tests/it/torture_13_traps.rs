//! Torture line 13: traps at thousands a second, and a stack that overflows.

use crate::limits::{assert_neighbour_answers, limited};

#[tokio::test]
async fn a_storm_of_traps_harms_nobody() {
    let host = limited("").await;
    let storm = futures::future::join_all((0..8).map(|_| async {
        let mut connection = host.connect().await;
        for _ in 0..100 {
            assert_eq!(connection.get("/probe/trap").await.status, 500);
        }
    }));
    tokio::join!(storm, async {
        for _ in 0..50 {
            assert_neighbour_answers(&host).await;
        }
    });
}

#[tokio::test]
async fn a_deep_recursion_is_a_trap() {
    let host = limited("").await;
    for _ in 0..3 {
        assert_eq!(host.get("/probe/overflow").await.status, 500);
    }
    assert_neighbour_answers(&host).await;
}
