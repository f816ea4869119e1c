import { execFile } from 'node:child_process'
import { createSign, generateKeyPairSync, type KeyObject } from 'node:crypto'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'

/** A file that has to be in a broker's container. */
interface BrokerFile {
  readonly content: string
  readonly target: string
  readonly mode: number
}

interface Certificate {
  readonly cert: string
  readonly key: string
}

const FOLDER = '/tmp/holdfast'
const KEYS = `${FOLDER}/jwks.json`
const AUDIENCE = 'holdfast'
const KEY_ID = 'test'
const DAYS = '2'
const login = 'org.apache.kafka.common.security'

const openssl = (folder: string, ...args: readonly string[]): Promise<unknown> =>
  promisify(execFile)('openssl', [...args], { cwd: folder })

/** An authority, a broker's and a client's certificate, users and tokens, made for one test run. */
export class KafkaSecurity {
  /** The authority that the broker's certificate is signed by. */
  readonly ca: string
  /** For the listener that wants one; its subject is `CN=alice`. */
  readonly client: Certificate
  /** By PLAIN and both SCRAMs. */
  readonly user: { readonly username: string; readonly password: string } = {
    username: 'alice',
    password: 'open-sesame',
  }
  readonly #broker: Certificate
  readonly #issuer: { readonly publicKey: KeyObject; readonly privateKey: KeyObject }

  private constructor(ca: string, broker: Certificate, client: Certificate) {
    this.ca = ca
    this.client = client
    this.#broker = broker
    this.#issuer = generateKeyPairSync('rsa', { modulusLength: 2048 })
  }

  static async make(): Promise<KafkaSecurity> {
    const folder = await mkdtemp(join(tmpdir(), 'holdfast-tls-'))
    try {
      const authority = ['-keyout', 'ca.key', '-out', 'ca.crt', '-subj', '/CN=holdfast-test']
      await openssl(folder, 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', ...authority)
      const broker = await sign(folder, 'localhost', 'DNS:localhost,IP:127.0.0.1')
      const client = await sign(folder, 'alice', 'DNS:alice')
      return new KafkaSecurity(await readFile(join(folder, 'ca.crt'), 'utf8'), broker, client)
    } finally {
      await rm(folder, { recursive: true })
    }
  }

  /** A token the brokers take for OAUTHBEARER, for so many seconds. */
  token(validForS: number = 3_600, subject: string = 'alice'): string {
    const nowS = Math.floor(Date.now() / 1_000)
    const claims = { sub: subject, aud: AUDIENCE, iat: nowS, exp: nowS + validForS }
    const head = { alg: 'RS256', typ: 'JWT', kid: KEY_ID }
    const signed = [head, claims].map((part) => encode(JSON.stringify(part))).join('.')
    const signature = createSign('RSA-SHA256').update(signed).sign(this.#issuer.privateKey)
    return `${signed}.${signature.toString('base64url')}`
  }

  /** Files of a broker. */
  get files(): readonly BrokerFile[] {
    const jwk = { ...this.#issuer.publicKey.export({ format: 'jwk' }), kid: KEY_ID, alg: 'RS256' }
    return [
      file('broker.pem', this.#broker.key + this.#broker.cert),
      file('ca.pem', this.ca),
      { content: JSON.stringify({ keys: [{ ...jwk, use: 'sig' }] }), target: KEYS, mode: 0o644 },
    ]
  }

  /** Lines of `server.properties`. */
  get lines(): readonly string[] {
    const { username, password } = this.user
    const plain = `${login}.plain.PlainLoginModule required user_${username}="${password}";`
    const oauth = `${login}.oauthbearer`
    return [
      ...keysOf('secure'),
      ...keysOf('mutual'),
      'listener.name.mutual.ssl.client.auth=required',
      'listener.name.secure.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER',
      `listener.name.secure.plain.sasl.jaas.config=${plain}`,
      ...['scram-sha-256', 'scram-sha-512'].map(
        (name) =>
          `listener.name.secure.${name}.sasl.jaas.config=${login}.scram.ScramLoginModule required;`,
      ),
      `listener.name.secure.oauthbearer.sasl.jaas.config=${oauth}.OAuthBearerLoginModule required;`,
      `listener.name.secure.oauthbearer.sasl.server.callback.handler.class=${oauth}.OAuthBearerValidatorCallbackHandler`,
      `sasl.oauthbearer.jwks.endpoint.url=file://${KEYS}`,
      `sasl.oauthbearer.expected.audience=${AUDIENCE}`,
    ]
  }

  /** For the tool that formats the data folder: users of SCRAM are in the cluster's own log. */
  get format(): string {
    const { username, password } = this.user
    const mechanisms = ['SCRAM-SHA-256', 'SCRAM-SHA-512']
    return mechanisms
      .map((name) => `--add-scram ${name}=[name=${username},password=${password}]`)
      .join(' ')
  }

  /** For Java: it reads keys from nowhere unless told. */
  get java(): string {
    return `-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls=file://${KEYS}`
  }
}

function file(name: string, content: string): BrokerFile {
  return { content, target: `${FOLDER}/${name}`, mode: 0o644 }
}

function keysOf(listener: string): readonly string[] {
  const prefix = `listener.name.${listener}.ssl`
  return [
    `${prefix}.keystore.type=PEM`,
    `${prefix}.keystore.location=${FOLDER}/broker.pem`,
    `${prefix}.truststore.type=PEM`,
    `${prefix}.truststore.location=${FOLDER}/ca.pem`,
  ]
}

async function sign(folder: string, name: string, names: string): Promise<Certificate> {
  const [key, request, cert] = [`${name}.key`, `${name}.csr`, `${name}.crt`]
  const subject = ['-subj', `/CN=${name}`, '-keyout', key, '-out', request]
  await openssl(folder, 'req', '-newkey', 'rsa:2048', '-nodes', ...subject)
  await writeFile(join(folder, 'names'), `subjectAltName=${names}\n`)
  const authority = ['-CA', 'ca.crt', '-CAkey', 'ca.key', '-CAcreateserial', '-days', DAYS]
  const files = ['-in', request, '-out', cert, '-extfile', 'names']
  await openssl(folder, 'x509', '-req', ...files, ...authority)
  const [certText, keyText] = [join(folder, cert), join(folder, key)]
  return { cert: await readFile(certText, 'utf8'), key: await readFile(keyText, 'utf8') }
}

function encode(text: string): string {
  return Buffer.from(text).toString('base64url')
}
