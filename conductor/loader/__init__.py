"""Files → the model: pipelines, project, connections and integrations, with every mistake named by file and line."""

from conductor.loader.codes import CODES, Code
from conductor.loader.compile import compile_definition, version_of
from conductor.loader.connections import Connection
from conductor.loader.diagnostics import (
    Diagnostic,
    Severity,
    has_errors,
    raise_errors,
    render_json,
    render_text,
)
from conductor.loader.plugins import Plugins, load_plugins
from conductor.loader.project import Project, ResolvedConnection, load_project
from conductor.loader.projectfile import ProjectFile
from conductor.loader.schema import pipeline_schema
from conductor.loader.scope import ProjectFacts
from conductor.loader.secrets import DirectorySecrets, EnvironmentSecrets, SecretSource, SecretSources

__all__ = [
    "CODES",
    "Code",
    "Connection",
    "Diagnostic",
    "DirectorySecrets",
    "EnvironmentSecrets",
    "Plugins",
    "Project",
    "ProjectFacts",
    "ProjectFile",
    "ResolvedConnection",
    "SecretSource",
    "SecretSources",
    "Severity",
    "compile_definition",
    "has_errors",
    "load_plugins",
    "load_project",
    "pipeline_schema",
    "raise_errors",
    "render_json",
    "render_text",
    "version_of",
]
