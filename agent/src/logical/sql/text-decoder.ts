import { isAscii, isUtf8 } from "node:buffer";

/** The text that bytes are; undefined where they are none of the encoding, or it is not known here. */
export type DecodeText = (bytes: Buffer) => string | undefined;

/** What PostgreSQL's names of encodings, as it compares them, are called here. A server's names come first. */
const labels: Readonly<Record<string, string>> = {
  euccn: "gbk",
  eucjp: "euc-jp",
  euckr: "euc-kr",
  iso88595: "iso-8859-5",
  iso88596: "iso-8859-6",
  iso88597: "iso-8859-7",
  iso88598: "iso-8859-8",
  koi8: "koi8-r",
  koi8r: "koi8-r",
  koi8u: "koi8-u",
  latin2: "iso-8859-2",
  latin3: "iso-8859-3",
  latin4: "iso-8859-4",
  latin5: "windows-1254",
  latin6: "iso-8859-10",
  latin7: "iso-8859-13",
  latin8: "iso-8859-14",
  latin9: "iso-8859-15",
  latin10: "iso-8859-16",
  win1250: "windows-1250",
  win1251: "windows-1251",
  win1252: "windows-1252",
  win1253: "windows-1253",
  win1254: "windows-1254",
  win1255: "windows-1255",
  win1256: "windows-1256",
  win1257: "windows-1257",
  win1258: "windows-1258",
  win866: "ibm866",
  win874: "windows-874",
  // Of clients alone.
  big5: "big5",
  gb18030: "gb18030",
  gbk: "gbk",
  sjis: "shift_jis",
  uhc: "euc-kr",
};

/** The encoding that a statement says the script goes on in; undefined for any other statement. */
export function clientEncodingIn(statement: string): string | undefined {
  return /^\s*SET\s+(?:SESSION\s+)?client_encoding\s*(?:=|TO)\s*'?([\w-]+)'?\s*;/i.exec(statement)?.[1];
}

/** Reads text in an encoding that PostgreSQL names. What is nothing but ASCII can be read in each of them. */
export function makeTextDecoder(encoding: string): DecodeText {
  const name = encoding.toLowerCase().replaceAll(/[^a-z0-9]/g, "");
  if (["utf8", "unicode", "sqlascii"].includes(name))
    return (bytes) => (isUtf8(bytes) ? bytes.toString("utf8") : undefined);
  if (["latin1", "iso88591"].includes(name)) return (bytes) => bytes.toString("latin1");
  const label = labels[name];
  const decoder = label === undefined ? undefined : new TextDecoder(label, { fatal: true });
  return (bytes) => {
    if (isAscii(bytes)) return bytes.toString("latin1");
    try {
      return decoder?.decode(bytes);
    } catch (error) {
      // What it says of bytes that are no text of the encoding.
      if (error instanceof TypeError) return undefined;
      throw error;
    }
  };
}

/** The same for names that are only shown and compared: what cannot be read is its bytes, written out. */
export function makeNameDecoder(encoding: string): (bytes: Buffer) => string {
  const decode = makeTextDecoder(encoding);
  return (bytes) => decode(bytes) ?? bytes.toString("latin1").replaceAll(/[\x80-\xff]/g, writeOut);
}

function writeOut(character: string): string {
  return `\\x${character.charCodeAt(0).toString(16)}`;
}
