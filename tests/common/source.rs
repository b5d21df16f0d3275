//! Rust source as the house rules see it: tokens without comments and strings, and where each of them stands.

/// One file of `src/`.
pub(crate) struct Source {
    /// From the root of the crate, with slashes: `src/gemm/tile.rs`.
    pub(crate) path: String,
    /// Its lines, comments included.
    pub(crate) lines: Vec<String>,
    pub(crate) tokens: Vec<Token>,
}

/// A word, a `::`, or one other character.
pub(crate) struct Token {
    pub(crate) text: String,
    /// From 0.
    pub(crate) line: usize,
    /// Modules inside of the file around the token.
    pub(crate) modules: Vec<String>,
    /// Inside of `impl Trait for ..`.
    pub(crate) in_trait_impl: bool,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let mut source = Self {
            path: path.to_owned(),
            lines: text.lines().map(str::to_owned).collect(),
            tokens: tokens(&without_comments_and_strings(text)),
        };
        source.find_scopes();
        source
    }

    /// The text of token `i`, empty behind the end.
    pub(crate) fn at(&self, i: usize) -> &str {
        self.tokens.get(i).map_or("", |t| &t.text)
    }

    /// Whether the tokens from `i` on are these.
    pub(crate) fn is_at(&self, i: usize, words: &[&str]) -> bool {
        words.iter().enumerate().all(|(n, w)| self.at(i + n) == *w)
    }

    /// `src/simd/tests.rs:12`, for a token.
    pub(crate) fn place(&self, i: usize) -> String {
        format!("{}:{}", self.path, self.tokens[i].line + 1)
    }

    /// The module that the file is: `["gemm", "tile"]` for src/gemm/tile.rs, nothing for src/lib.rs.
    pub(crate) fn module(&self) -> Vec<String> {
        let path = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        let mut parts: Vec<String> = path.split('/').map(str::to_owned).collect();
        if matches!(parts.last().map(String::as_str), Some("mod" | "lib" | "main")) {
            parts.pop();
        }
        parts
    }

    /// Whether token `i` belongs to unit tests.
    pub(crate) fn in_tests(&self, i: usize) -> bool {
        let inside = self.tokens[i].modules.iter();
        self.module().iter().chain(inside).any(|m| m == "tests")
    }

    /// All paths that start with the word `root` followed by `::`, as (token, segments after the root); a use tree gives
    /// one path for each of its leaves.
    pub(crate) fn paths(&self, root: &str) -> Vec<(usize, Vec<String>)> {
        let mut all = Vec::new();
        for i in 0..self.tokens.len() {
            let continued = i > 0 && self.at(i - 1) == "::";
            if self.is_at(i, &[root, "::"]) && !continued {
                let mut leaves = Vec::new();
                self.tree(i + 2, Vec::new(), &mut leaves);
                all.extend(leaves.into_iter().map(|path| (i, path)));
            }
        }
        all
    }

    /// Reads the use tree at token `i`; gives the token behind it.
    fn tree(&self, mut i: usize, mut path: Vec<String>, leaves: &mut Vec<Vec<String>>) -> usize {
        loop {
            match self.at(i) {
                "{" => {
                    i += 1;
                    while !matches!(self.at(i), "}" | "") {
                        i = self.tree(i, path.clone(), leaves);
                        while self.at(i) == "as" || is_word(self.at(i)) {
                            i += 1; // a new name
                        }
                        if self.at(i) == "," {
                            i += 1;
                        }
                    }
                    return i + 1;
                }
                word if is_word(word) || word == "*" => path.push(word.to_owned()),
                _ => {
                    leaves.push(path); // `a::<b>`
                    return i + 1;
                }
            }
            i += 1;
            if self.at(i) != "::" {
                leaves.push(path);
                return i;
            }
            i += 1;
        }
    }

    fn find_scopes(&mut self) {
        enum Scope {
            Module(String),
            TraitImpl,
            Other,
        }
        let mut stack: Vec<Scope> = Vec::new();
        let mut next = Scope::Other;
        for i in 0..self.tokens.len() {
            let item = i == 0 || matches!(self.at(i - 1), ";" | "}" | "{" | "]" | "unsafe");
            match self.at(i) {
                "mod" if self.at(i + 2) == "{" => next = Scope::Module(self.at(i + 1).to_owned()),
                "impl" if item => {
                    let head = (i..).take_while(|&n| !matches!(self.at(n), "{" | ""));
                    let for_type = |n: usize| self.at(n) == "for" && self.at(n + 1) != "<";
                    next = if head.into_iter().any(for_type) {
                        Scope::TraitImpl
                    } else {
                        Scope::Other
                    };
                }
                "{" => stack.push(std::mem::replace(&mut next, Scope::Other)),
                "}" => drop(stack.pop()),
                _ => {}
            }
            let modules = stack.iter().filter_map(|s| match s {
                Scope::Module(name) => Some(name.clone()),
                _ => None,
            });
            self.tokens[i].modules = modules.collect();
            self.tokens[i].in_trait_impl = stack.iter().any(|s| matches!(s, Scope::TraitImpl));
        }
    }
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphanumeric() || c == '_')
}

fn tokens(code: &str) -> Vec<Token> {
    let mut all: Vec<Token> = Vec::new();
    for (line, text) in code.lines().enumerate() {
        let mut rest = text.trim_start();
        while let Some(first) = rest.chars().next() {
            let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            let len = if word > 0 {
                word
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            let text = rest[..len].to_owned();
            all.push(Token { text, line, modules: Vec::new(), in_trait_impl: false });
            rest = rest[len..].trim_start();
        }
    }
    all
}

/// The code with comments and the contents of literals as spaces; lines stay where they are.
fn without_comments_and_strings(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let starts =
        |i: usize, what: &str| what.chars().enumerate().all(|(n, c)| chars.get(i + n) == Some(&c));
    let mut code = String::with_capacity(text.len());
    let mut i = 0;
    while i < chars.len() {
        let end = if starts(i, "//") {
            (i..chars.len()).find(|&n| chars[n] == '\n').unwrap_or(chars.len())
        } else if starts(i, "/*") {
            let (mut n, mut depth) = (i, 0);
            loop {
                if starts(n, "/*") {
                    (depth, n) = (depth + 1, n + 2);
                } else if starts(n, "*/") {
                    (depth, n) = (depth - 1, n + 2);
                } else {
                    n += 1;
                }
                if depth == 0 || n >= chars.len() {
                    break n.min(chars.len());
                }
            }
        } else if let Some(hashes) = raw_string(&chars, i) {
            let close = format!("\"{}", "#".repeat(hashes));
            let body = (i..chars.len()).find(|&n| chars[n] == '"').unwrap_or(i) + 1;
            let end = (body..chars.len()).find(|&n| starts(n, &close)).unwrap_or(chars.len());
            (end + close.len()).min(chars.len())
        } else if chars[i] == '"' {
            let mut n = i + 1;
            while n < chars.len() && chars[n] != '"' {
                n += if chars[n] == '\\' { 2 } else { 1 };
            }
            (n + 1).min(chars.len())
        } else if starts(i, "'\\") {
            let close = (i + 3..chars.len()).find(|&n| chars[n] == '\'');
            close.map_or(chars.len(), |n| n + 1)
        } else if chars[i] == '\'' && chars.get(i + 2) == Some(&'\'') {
            i + 3
        } else {
            code.push(chars[i]);
            i += 1;
            continue;
        };
        code.extend(chars[i..end].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
        i = end;
    }
    code
}

/// The number of hashes of the raw string that starts at `i`, if one does.
fn raw_string(chars: &[char], i: usize) -> Option<usize> {
    let inside_a_word = i > 0 && (chars[i - 1].is_alphanumeric() || chars[i - 1] == '_');
    if chars[i] != 'r' || (inside_a_word && chars[i - 1] != 'b') {
        return None;
    }
    let hashes = chars[i + 1..].iter().take_while(|&&c| c == '#').count();
    (chars.get(i + 1 + hashes) == Some(&'"')).then_some(hashes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        Source::new("src/x.rs", text).tokens.into_iter().map(|t| t.text).collect()
    }

    #[test]
    fn comments_and_literals_are_no_code() {
        assert_eq!(words("a // unsafe\nb /* x /* unsafe */ y */ c"), ["a", "b", "c"]);
        assert_eq!(
            words(r##"f("unsafe \" x", r#"un"safe"#, 'u', '\'', b"z")"##).join(" "),
            "f ( , , , , b )"
        );
        assert_eq!(words("fn f<'a>(x: &'a str)").join(" "), "fn f < ' a > ( x : & ' a str )");
        let source = Source::new("src/x.rs", "/*\n*/ a\n\"\n\" b");
        assert_eq!(source.tokens.iter().map(|t| t.line).collect::<Vec<_>>(), [1, 3]);
    }

    #[test]
    fn scopes_and_paths_are_found() {
        let source = Source::new(
            "src/gemm/tile.rs",
            "use crate::{a, b::{c as d, e::*}};\n\
             impl<T: Fn() -> X> A for B { fn f() { crate::g::<H>() } }\n\
             mod tests { fn f(x: impl Copy) {} }\n\
             fn g() {}",
        );
        assert_eq!(source.module(), ["gemm", "tile"]);
        let paths: Vec<String> =
            source.paths("crate").iter().map(|(_, path)| path.join("::")).collect();
        assert_eq!(paths, ["a", "b::c", "b::e::*", "g"]);
        let fns: Vec<(bool, bool)> = (0..source.tokens.len())
            .filter(|&i| source.at(i) == "fn")
            .map(|i| (source.tokens[i].in_trait_impl, source.in_tests(i)))
            .collect();
        assert_eq!(fns, [(true, false), (false, true), (false, false)]);
    }
}
