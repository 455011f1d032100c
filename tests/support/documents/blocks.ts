/** A fenced block of a Markdown document. */
export interface Block {
  /** First word after the fence: sh, ts, python. */
  readonly language: string;
  /** The words after it: what the block is for, and the file that it is. */
  readonly marks: readonly string[];
  /** Heading of the second level that it stands under. */
  readonly section: string;
  /** Line of its first line of text in the document, from 1. */
  readonly line: number;
  readonly text: string;
}

/** Every fenced block of a document, in order. Throws on one that is not closed. */
export function findBlocks(markdown: string): Block[] {
  const blocks: Block[] = [];
  let section = "";
  let open: { readonly info: readonly string[]; readonly line: number; readonly lines: string[] } | undefined;
  for (const [index, line] of markdown.split("\n").entries()) {
    const fence = /^```(.*)$/.exec(line)?.[1];
    if (open === undefined) {
      if (fence !== undefined) open = { info: fence.split(" ").filter(Boolean), line: index + 2, lines: [] };
      else section = /^## (.+)$/.exec(line)?.[1] ?? section;
    } else if (fence === undefined) {
      open.lines.push(line);
    } else {
      const [language = "", ...marks] = open.info;
      blocks.push({ language, marks, section, line: open.line, text: open.lines.map((text) => `${text}\n`).join("") });
      open = undefined;
    }
  }
  if (open !== undefined) throw new Error(`the block before line ${open.line} is not closed`);
  return blocks;
}

/**
 * The blocks as one script in which every line stands where it stands in the document, so that what bash says of a
 * line number is true of the document. It begins with `first`, in the lines before the first block.
 */
export function scriptOf(blocks: readonly Block[], first: readonly string[]): string {
  const lines = [...first];
  for (const { line, text } of blocks) {
    if (lines.length >= line) throw new Error(`there is no room before line ${line} of the document`);
    while (lines.length < line - 1) lines.push("");
    lines.push(...text.trimEnd().split("\n"));
  }
  return `${lines.join("\n")}\n`;
}
