//! The page that describes the API is made of the routes, and is committed as they are.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot read its page has failed"
)]

use std::path::Path;

#[test]
fn the_committed_description_is_what_the_routes_say() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/api/openapi.json");
    let made = format!(
        "{}\n",
        picket_scheduler::api::openapi().to_pretty_json().unwrap()
    );
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&page, &made).unwrap();
    }
    let committed = std::fs::read_to_string(&page).unwrap_or_default();
    assert!(
        committed == made,
        "docs/api/openapi.json is old; UPDATE_GOLDEN=1 writes it anew"
    );
}

#[test]
fn it_is_openapi_3_1_and_every_route_needs_a_token() {
    let made = serde_json::to_value(picket_scheduler::api::openapi()).unwrap();
    assert!(made["openapi"].as_str().unwrap().starts_with("3.1"));
    assert!(made["security"][0].get("token").is_some());
    let paths = made["paths"].as_object().unwrap();
    assert!(
        paths.keys().all(|path| path.starts_with("/api/v1/")),
        "{:?}",
        paths.keys()
    );
    assert!(paths.len() > 15);
}
