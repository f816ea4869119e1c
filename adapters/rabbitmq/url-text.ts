/** The URL as it may be logged and shown: without user name and password, query included as it is. */
export function urlText(url: string): string {
  const cut = url.replace(/^([a-z]+:\/\/).*@/is, '$1')
  return cut.length > 200 ? `${cut.slice(0, 197)}...` : cut
}
