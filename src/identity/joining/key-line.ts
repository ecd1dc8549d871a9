/**
 * What helps whoever has lost, exposed or used up a key that a machine joins by: one line for all of it, told by the server and by the
 * machine. It prints the whole command for the machine, with a token where the document lets one make a key known.
 */
export const keyLine = (document: string): string => `chaperone agent token NAME --how ${document}`

/** A key that may not be used any more. The old file stays until the new key works: it says which key was shown by two. */
export const newKeyFix = (document: string): string =>
  `Make a new key: an administrator prints the line with \`${keyLine(document)}\`; run it on this machine with another --key-file.`
