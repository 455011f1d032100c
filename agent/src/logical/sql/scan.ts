// One thing: the lexer of psql's scripts, whose states and their ends cannot be told apart.
import { fail } from "@coppice/proto/kit/failure";

/** A part of a script for psql, in order; all bytes of the script come out once. */
export type Piece =
  /** White space, or one whole comment, between statements. */
  | { readonly kind: "space" | "comment"; readonly bytes: Buffer }
  /** A line that begins with a backslash, its line break included. */
  | { readonly kind: "command"; readonly bytes: Buffer }
  /**
   * A statement or a part of a long one, up to its semicolon. The first part has at least 4 KiB unless it is the whole;
   * COPY … FROM stdin is always whole.
   */
  | { readonly kind: "statement"; readonly bytes: Buffer; readonly isStart: boolean; readonly isEnd: boolean }
  /** Rows for the COPY before, in parts; the last one ends with the line \. that ends them. */
  | { readonly kind: "rows"; readonly bytes: Buffer; readonly isEnd: boolean };

type Quote =
  | { readonly kind: "string"; readonly escapes: boolean }
  | { readonly kind: "identifier" }
  | { readonly kind: "dollar"; readonly tag: string }
  | { readonly kind: "line" }
  | { readonly kind: "block"; depth: number };

/** How far a token may reach: tags of dollar quotes are the longest. */
const lookAhead = 512;
const headBytes = 4096;
const mostCopyBytes = 1 << 20;
const longestLine = 1 << 16;

const token =
  /[A-Za-z_\x80-\xff][\w$\x80-\xff]*|\$(?:[A-Za-z_\x80-\xff][\w\x80-\xff]*)?\$|--|\/\*|['"();\\]|[0-9]+|[^'"();\\\w$\-/\x80-\xff]+|[\s\S]/y;
const blank = /[ \t\r\n\f\v]+/y;
const continued = /[ \t\r\f\v]*\n[ \t\r\n\f\v]*'/y;
const rowsEnd = /(?:^|\n)\\\.\r?(?:\n|$)/;

function broken(why: string, hint?: string): never {
  return fail("SCRIPT_UNREADABLE", `the SQL script ${why}`, { hint });
}

function cutOff(where: string): never {
  return broken(`ends within ${where}`, "the file is cut off, or no dump: take it again, or fetch it again");
}

/** Whether it is a COPY whose rows follow in the script. */
function readsRows(statement: string): boolean {
  return /^COPY\s[^]*\sFROM\s+STDIN\b/i.test(statement.replaceAll(/"(?:[^"]|"")*"/g, '"'));
}

/** Encodings with bytes of ASCII inside of characters: there a backslash or a quote may be a part of one. */
const unsafeEncoding =
  /^SET\s+client_encoding\s*(?:=|TO)\s*'?(?:big5|gbk|gb18030|johab|uhc|sjis|shift_jis_2004|mskanji|win9(?:32|36|49|50))\b/i;

/**
 * Cuts a script for psql into statements, rows of COPY, comments and backslash commands by the rules of psql's own
 * lexer (psqlscan.l): quotes, dollar quotes, nested comments, parentheses, BEGIN ATOMIC … END. Holds one chunk and what
 * a piece needs. Fails with SCRIPT_UNREADABLE for what it cannot follow for certain, or what ends within a statement.
 */
export async function* scanScript(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Piece, void> {
  const scanner = new Scanner();
  for await (const chunk of chunks) yield* scanner.take(chunk, false);
  yield* scanner.take(new Uint8Array(), true);
}

class Scanner {
  #bytes: Buffer = Buffer.alloc(0);
  #text = "";
  #place = 0;
  /** Where the piece that is being read begins. */
  #begin = 0;
  #mode: "between" | "statement" | "rows" = "between";
  #quote: Quote | undefined;
  #isStart = true;
  #parentheses = 0;
  #begins = 0;
  /** First words of the statement: psql looks for CREATE [OR REPLACE] FUNCTION or PROCEDURE. */
  #words: string[] = [];
  #standardStrings = true;
  #isFinal = false;

  *take(chunk: Uint8Array, isFinal: boolean): Generator<Piece, void> {
    this.#bytes = Buffer.concat([this.#bytes.subarray(this.#begin), chunk]);
    this.#place -= this.#begin;
    this.#begin = 0;
    this.#isFinal = isFinal;
    this.#text = this.#bytes.toString("latin1");
    for (;;) {
      const place = this.#place;
      const mode = this.#mode;
      yield* this.#step();
      if (this.#place === place && this.#mode === mode) break;
    }
    if (isFinal) this.#end();
  }

  get #limit(): number {
    return this.#isFinal ? this.#text.length : this.#text.length - lookAhead;
  }

  #end(): void {
    if (this.#mode === "rows") cutOff("the rows of a COPY");
    if (this.#mode === "statement" || this.#place < this.#text.length) cutOff("a statement");
  }

  *#step(): Generator<Piece, void> {
    if (this.#mode === "rows") yield* this.#stepRows();
    else if (this.#mode === "between") yield* this.#stepBetween();
    else yield* this.#stepStatement();
  }

  #cut(end: number): Buffer {
    const bytes = this.#bytes.subarray(this.#begin, end);
    this.#begin = end;
    this.#place = end;
    return bytes;
  }

  #match(pattern: RegExp, place: number): string | undefined {
    pattern.lastIndex = place;
    return pattern.exec(this.#text)?.[0];
  }

  *#stepBetween(): Generator<Piece, void> {
    const text = this.#text;
    while (this.#mode === "between" && this.#place < this.#limit) {
      const space = this.#match(blank, this.#place);
      if (space !== undefined) {
        yield { kind: "space", bytes: this.#cut(this.#place + space.length) };
        continue;
      }
      const isComment = text.startsWith("--", this.#place);
      const isCommand = text[this.#place] === "\\";
      if (isComment || isCommand) {
        const found = text.indexOf("\n", this.#place);
        if (found < 0 && !this.#isFinal) {
          if (text.length - this.#place > longestLine) broken("has a line that is too long for a comment");
          return;
        }
        const end = found < 0 ? text.length : found + 1;
        yield { kind: isCommand ? "command" : "comment", bytes: this.#cut(end) };
        continue;
      }
      this.#mode = "statement";
      this.#isStart = true;
      [this.#parentheses, this.#begins, this.#words] = [0, 0, []];
    }
  }

  *#stepStatement(): Generator<Piece, void> {
    while (this.#place < this.#limit) {
      if (this.#quote) {
        if (!this.#skipQuoted(this.#quote)) break;
        continue;
      }
      const found = this.#match(token, this.#place) ?? broken("cannot be read");
      this.#place += found.length;
      if (found === ";" && this.#parentheses === 0 && this.#begins === 0) return yield* this.#endStatement();
      this.#see(found);
    }
    const size = this.#place - this.#begin;
    if (size < headBytes || this.#isCopy()) return;
    yield { kind: "statement", bytes: this.#cut(this.#place), isStart: this.#isStart, isEnd: false };
    this.#isStart = false;
  }

  #isCopy(): boolean {
    const isCopy = this.#isStart && /^copy\s/i.test(this.#text.slice(this.#begin, this.#begin + 5));
    if (isCopy && this.#place - this.#begin > mostCopyBytes) broken("has a COPY that is too long");
    return isCopy;
  }

  #see(found: string): void {
    if (found === "'") this.#quote = { kind: "string", escapes: !this.#standardStrings };
    else if (found === '"') this.#quote = { kind: "identifier" };
    else if (found === "--") this.#quote = { kind: "line" };
    else if (found === "/*") this.#quote = { kind: "block", depth: 1 };
    else if (found === "(") this.#parentheses++;
    else if (found === ")") this.#parentheses = Math.max(0, this.#parentheses - 1);
    else if (found === "\\") broken("has a backslash within a statement");
    else if (found.startsWith("$") && found.endsWith("$") && found.length > 1)
      this.#quote = { kind: "dollar", tag: found };
    else if (/^[A-Za-z_\x80-\xff]/.test(found)) this.#seeWord(found);
  }

  #seeWord(word: string): void {
    if (/^e$/i.test(word) && this.#text[this.#place] === "'") {
      this.#place++;
      this.#quote = { kind: "string", escapes: true };
      return;
    }
    if (this.#words.length < 4) this.#words.push(word.toLowerCase());
    if (this.#parentheses > 0 || !/^create (or replace )?(function|procedure)\b/.test(this.#words.join(" "))) return;
    if (/^begin$/i.test(word)) this.#begins++;
    else if (/^case$/i.test(word) && this.#begins > 0) this.#begins++;
    else if (/^end$/i.test(word) && this.#begins > 0) this.#begins--;
  }

  /** Goes on within a quote; false when its end is not in sight yet. */
  #skipQuoted(quote: Quote): boolean {
    switch (quote.kind) {
      case "string":
        return this.#skipString(quote.escapes);
      case "identifier":
        return this.#skipTo('"', 0);
      case "line":
        return this.#skipTo("\n", 0);
      case "dollar":
        return this.#skipTo(quote.tag, quote.tag.length - 1);
      case "block":
        return this.#skipBlock(quote);
    }
  }

  /** To the end of the quote; `held` characters before the end of what is known may be its beginning. */
  #skipTo(end: string, held: number): boolean {
    const found = this.#text.indexOf(end, this.#place);
    if (found < 0) {
      this.#place = Math.max(this.#place, this.#text.length - held);
      return false;
    }
    this.#place = found + end.length;
    this.#quote = undefined;
    return true;
  }

  #skipString(escapes: boolean): boolean {
    const text = this.#text;
    for (;;) {
      if (this.#place >= this.#limit) return false;
      let end = text.indexOf("'", this.#place);
      if (escapes) {
        const escape = text.indexOf("\\", this.#place);
        if (escape >= 0 && (end < 0 || escape < end)) {
          this.#place = escape + 2;
          continue;
        }
      }
      if (end < 0) {
        this.#place = text.length;
        return false;
      }
      // What follows decides: a doubled quote goes on, and so does a string that is continued after a line break.
      if (end >= this.#limit) {
        this.#place = end;
        return false;
      }
      end++;
      if (text[end] === "'") {
        this.#place = end + 1;
        continue;
      }
      const more = this.#match(continued, end);
      if (more !== undefined) {
        this.#place = end + more.length;
        continue;
      }
      this.#place = end;
      this.#quote = undefined;
      return true;
    }
  }

  #skipBlock(quote: { depth: number }): boolean {
    const mark = /\/\*|\*\//g;
    mark.lastIndex = this.#place;
    const found = mark.exec(this.#text);
    if (!found) {
      this.#place = Math.max(this.#place, this.#text.length - 1);
      return false;
    }
    quote.depth += found[0] === "/*" ? 1 : -1;
    this.#place = mark.lastIndex;
    if (quote.depth === 0) this.#quote = undefined;
    return true;
  }

  *#endStatement(): Generator<Piece, void> {
    const isStart = this.#isStart;
    const bytes = this.#cut(this.#place);
    const text = isStart ? bytes.toString("latin1") : "";
    const strings = /^SET\s+standard_conforming_strings\s*(?:=|TO)\s*'?(on|off)/i.exec(text)?.[1];
    if (strings !== undefined) this.#standardStrings = strings.toLowerCase() === "on";
    if (unsafeEncoding.test(text))
      broken(
        "is in an encoding in which quotes cannot be told for certain",
        "take the dump again with pg_dump --encoding=UTF8",
      );
    this.#mode = "between";
    if (isStart && readsRows(text)) {
      const end = /[ \t\r]*\n/y;
      const line = this.#match(end, this.#place) ?? broken("has something between a COPY and its rows");
      this.#place += line.length;
      yield { kind: "statement", bytes, isStart, isEnd: true };
      yield { kind: "space", bytes: this.#cut(this.#place) };
      this.#mode = "rows";
      this.#isStart = true;
      return;
    }
    yield { kind: "statement", bytes, isStart, isEnd: true };
  }

  *#stepRows(): Generator<Piece, void> {
    const text = this.#text;
    // The end may be the first line; later ones begin after a line break that is still here.
    const isFirst = this.#isStart;
    let found = -1;
    let length = 0;
    if (isFirst && /^\\\.\r?(?:\n|$)/.test(text.slice(this.#begin, this.#begin + 4))) {
      found = this.#begin;
      length = /^\\\.\r?\n?/.exec(text.slice(found, found + 4))?.[0].length ?? 0;
    } else {
      for (let at = text.indexOf("\n\\.", this.#begin); at >= 0; at = text.indexOf("\n\\.", at + 1)) {
        const end = rowsEnd.exec(text.slice(at, at + 5));
        if (!end || end.index !== 0) continue;
        found = at + 1;
        length = end[0].length - 1;
        break;
      }
    }
    // Its line break may come with the next chunk.
    const isSure = found >= 0 && (this.#isFinal || found + length <= this.#limit + lookAhead - 4);
    if (isSure) {
      yield { kind: "rows", bytes: this.#cut(found + length), isEnd: true };
      this.#mode = "between";
      return;
    }
    if (this.#isFinal) cutOff("the rows of a COPY");
    const end = text.length - 4;
    if (found >= 0 || end <= this.#begin) return;
    yield { kind: "rows", bytes: this.#cut(end), isEnd: false };
    this.#isStart = false;
  }
}
