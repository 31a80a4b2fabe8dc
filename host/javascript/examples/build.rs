//! Builds one handler: `build FILE OUTPUT`.

use std::path::Path;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(file), Some(output)) = (arguments.next(), arguments.next()) else {
        anyhow::bail!("usage: build FILE OUTPUT")
    };
    let component = courier_javascript::build(Path::new(&file), "handler")?;
    std::fs::write(output, component)?;
    Ok(())
}
