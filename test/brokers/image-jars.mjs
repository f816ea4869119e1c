/** Published Java programs in an image: fetched by Maven with all they need at run time. */
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'

function dependency(coordinates) {
  const [group, artifact, version] = coordinates.split(':')
  return `    <dependency>
      <groupId>${group}</groupId>
      <artifactId>${artifact}</artifactId>
      <version>${version}</version>
    </dependency>`
}

/** A project that is nothing but its dependencies; where they come from is up to Maven. */
function projectOf(artifacts) {
  return `<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>holdfast</groupId>
  <artifactId>image</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
${artifacts.map(dependency).join('\n')}
  </dependencies>
</project>
`
}

/** The version of the first artifact, by the file that came for it. */
function versionFound([first], folder) {
  const [, artifact] = first.split(':')
  const file = readdirSync(folder).find((name) => name.startsWith(`${artifact}-`))
  return basename(file ?? '', '.jar').slice(artifact.length + 1)
}

/**
 * Puts the jars into `root`, an image's file system; returns the version of the first artifact, and
 * throws when it is not the one wanted. `run` runs a command and throws with what it said.
 */
export function addJars({ jars: { folder, artifacts }, version, variable }, root, run) {
  const project = join(root, 'tmp', 'jars')
  const target = join(root, folder)
  mkdirSync(project, { recursive: true })
  mkdirSync(target, { recursive: true })
  const pom = join(project, 'pom.xml')
  writeFileSync(pom, projectOf(artifacts))
  const goal = 'dependency:copy-dependencies'
  const options = ['-DincludeScope=runtime', `-DoutputDirectory=${target}`]
  run('mvn', ['--quiet', '--batch-mode', '--file', pom, goal, ...options])
  rmSync(project, { recursive: true })
  const found = versionFound(artifacts, target)
  if (found.startsWith(`${version}.`)) return found
  throw new Error(`${artifacts[0]} came as '${found}', and ${version} is wanted: name an image of
${version} in ${variable}, or an artifact of that version in test/brokers/images.json`)
}
