//! What may be dropped into the bay, and what it is served as.

use hotbay_tests::{Host, guests};

#[tokio::test]
async fn smoke() {
    let host = Host::builder().service("probe", &guests::revision("probe", 7)).start().await;
    let answer = host.get("/probe/marker").await;
    println!("{}\n{answer:?}", host.told());
    for path in ["/headers?a=1","/body","/sleep?ms=50","/count","/print","/fetch?authority=example.com","/env","/files","/socket?port=1","/trap","/no-response","/error","/overflow","/grow?mib=100","/set?name=connection&value=close","/drip?count=3&ms=10","/length?promised=5&bytes=6","/early?ms=300","/flood?lines=3"] {
        let a = host.get(&format!("/probe{path}")).await;
        println!("{path} {} {}", a.status, a.text());
    }
    println!("{}", host.told());
}
