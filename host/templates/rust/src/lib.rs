//! Greets people by name.
//!
//! ```text
//! $ curl http://127.0.0.1:8080/{{name}}/Ada
//! {"text":"Hello, Ada!"}
//! ```

use hotbay_sdk::{Json, Path, Problem, Router, RouterExt, routing::get};
use serde::Serialize;

hotbay_sdk::service!(router: app);

fn app() -> Router {
    Router::new().route("/", get(welcome)).route("/{name}", get(greet)).problems()
}

async fn welcome() -> &'static str {
    "Ask for a greeting: /{{name}}/Ada\n"
}

#[derive(Serialize)]
struct Greeting {
    text: String,
}

async fn greet(Path(name): Path<String>) -> Result<Json<Greeting>, Problem> {
    if name.len() > 50 {
        return Err(Problem::bad_request("a name has at most 50 bytes"));
    }
    Ok(Json(Greeting { text: format!("Hello, {name}!") }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeting(name: &str) -> Result<String, Problem> {
        pollster::block_on(greet(Path(name.to_owned()))).map(|Json(greeting)| greeting.text)
    }

    #[test]
    fn it_greets_by_name() {
        assert_eq!(greeting("Ada").unwrap(), "Hello, Ada!");
    }

    #[test]
    fn a_name_that_is_too_long_is_refused() {
        assert!(greeting(&"a".repeat(51)).is_err());
    }
}
