//! Lets Cargo see when the console was built: it is embedded from
//! `console/dist`, which is not there in a fresh checkout.

fn main() {
    // An empty folder stands for a console that was not built. Without it
    // Cargo would take what is missing for changed, and build anew each time.
    let dist = std::path::Path::new("console/dist");
    if std::fs::create_dir_all(dist).is_err() {
        println!("cargo::warning=host/console/dist cannot be created; a console built later is not noticed");
    }
    println!("cargo::rerun-if-changed=console/dist");
    println!("cargo::rerun-if-changed=build.rs");
}
