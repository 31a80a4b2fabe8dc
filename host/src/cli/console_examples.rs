//! Checks that this program takes the commands that the console shows.

use std::collections::BTreeMap;

use clap::Parser as _;

use super::Cli;

const EXAMPLES: &str = include_str!("../../console/src/examples.json");

/// The words of a command line, split as a shell does, with quotes.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for letter in line.chars() {
        match (quote, letter) {
            (Some(open), _) if letter == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, ' ') => words.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

/// "example commands that the CLI refuses".
#[test]
fn each_example_of_the_console_is_a_command() {
    let examples: BTreeMap<String, String> = serde_json::from_str(EXAMPLES).unwrap();
    assert!(examples.len() >= 4, "{examples:?}");
    for (name, line) in &examples {
        for line in [line.clone(), format!("{line} --server https://courier.example.com:7173")] {
            if let Err(refused) = Cli::try_parse_from(words(&line)) {
                panic!("the console's example {name:?} is refused: {line}\n{refused}");
            }
        }
    }
}

#[test]
fn quotes_hold_words_together() {
    assert_eq!(words("a --body '{\"x\": 1}' \"b c\" ''"), ["a", "--body", "{\"x\": 1}", "b c", ""]);
}
