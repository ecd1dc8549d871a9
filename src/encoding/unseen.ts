/**
 * What nobody sees, or what makes a reader see something else than what stands there: control and format characters (directions of
 * writing, zero width), line ends of other kinds, fillers, private and unassigned characters, halves of a pair (CVE-2021-42574, peers
 * R42). One set for every place where somebody else's text is read: what an approver notices must not depend on where he looks.
 */
export const UNSEEN = /[\p{C}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\u2800]/gv

/** Spaces beside the plain one, which a reader takes for it. */
export const ODD_SPACE = /[\p{Zs}--[ ]]/gv

/** `\u{202e}` */
export const escapeOf = (letter: string): string => `\\u{${letter.codePointAt(0)!.toString(16)}}`

/** The text with what is unseen written as escapes. `kept`: characters that stay, such as line ends. */
export const seenWhole = (text: string, kept = ''): string => text.replace(UNSEEN, (letter) => (kept.includes(letter) ? letter : escapeOf(letter)))
