/** An edit that knows line feeds alone, of a text that may have CRLF throughout: then it has CRLF throughout afterwards. */
export function inItsLineEnds(text: string, edit: (text: string) => string): string {
  // Where they are mixed nobody knows which is meant, and what is not edited keeps its bytes.
  if (!text.includes('\r\n') || /(?<!\r)\n/.test(text)) return edit(text)
  return edit(text.replaceAll('\r\n', '\n')).replaceAll('\n', '\r\n')
}
