/** An answer that says no, in the form of RFC 7644 section 3.12. */
export class ScimError extends Error {
  readonly status: number
  readonly scimType: string | undefined

  constructor(status: number, detail: string, scimType?: string) {
    super(detail)
    this.name = 'ScimError'
    this.status = status
    this.scimType = scimType
  }
}

export const invalid = (detail: string, scimType = 'invalidValue') => new ScimError(400, detail, scimType)
export const unknown = () => new ScimError(404, 'There is no such resource.')
export const takenAlready = (detail: string) => new ScimError(409, detail, 'uniqueness')

export const errorBody = ({ status, scimType, message }: ScimError) => ({
  schemas: ['urn:ietf:params:scim:api:messages:2.0:Error'],
  status: String(status),
  ...(scimType === undefined ? {} : { scimType }),
  detail: message,
})
