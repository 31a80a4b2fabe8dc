//! A valid component of another world: it exports nothing that Courier calls, so
//! an upload of it must be refused.

wit_bindgen::generate!({ path: "wit", world: "other" });

struct Other;

impl Guest for Other {
    fn answer() -> u32 {
        42
    }
}

export!(Other);
