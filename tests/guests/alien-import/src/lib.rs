//! Exports `handle` as a handler does, but imports `alien:thing/api`, so an
//! upload of it must be refused with that name.

wit_bindgen::generate!({
    path: ["../../../wit", "wit"],
    world: "alien:thing/alien",
    generate_all,
});

struct Alien;

impl Guest for Alien {
    fn handle(_: Message, _: Attempt) -> Result<(), Failure> {
        Err(Failure::Error(alien::thing::api::ask()))
    }
}

export!(Alien);
