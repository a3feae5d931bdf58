// Records what BuildKit's own parser makes of Dockerfiles, as JSON that tests compare with.
//
//	go run . FILE… > parsed.jsonl      one line a file: {"file": …, "parsed": …} or {"file": …, "error": …}
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

type object = map[string]any

func main() {
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	for _, path := range os.Args[1:] {
		line := object{"file": filepath.Base(path)}
		parsed, err := record(path)
		if err != nil {
			line["error"] = err.Error()
		} else {
			line["parsed"] = parsed
		}
		if err := out.Encode(line); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

func record(path string) (object, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	tree, err := parser.Parse(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	stages, arguments, err := instructions.Parse(tree.AST, linter.New(&linter.Config{}))
	if err != nil {
		return nil, err
	}
	syntax, _, _, _ := parser.DetectSyntax(data)
	found := object{"escape": string(tree.EscapeToken), "syntax": syntax, "arguments": []object{}, "stages": []object{}}
	for _, argument := range arguments {
		found["arguments"] = append(found["arguments"].([]object), command(&argument))
	}
	for _, stage := range stages {
		steps := []object{}
		for _, step := range stage.Commands {
			steps = append(steps, command(step))
		}
		found["stages"] = append(found["stages"].([]object), object{
			"name": stage.Name, "base": stage.BaseName, "platform": stage.Platform, "line": stage.Location[0].Start.Line, "steps": steps,
		})
	}
	return found, nil
}

func command(step instructions.Command) object {
	found := fields(step)
	found["keyword"] = strings.ToUpper(step.Name())
	found["line"] = step.Location()[0].Start.Line
	return found
}

func fields(step instructions.Command) object {
	switch step := step.(type) {
	case *instructions.EnvCommand:
		return object{"pairs": pairs(step.Env)}
	case *instructions.LabelCommand:
		return object{"pairs": pairs(step.Labels)}
	case *instructions.ArgCommand:
		found := [][]any{}
		for _, pair := range step.Args {
			found = append(found, []any{pair.Key, pair.Value})
		}
		return object{"pairs": found}
	case *instructions.MaintainerCommand:
		return object{"name": step.Maintainer}
	case *instructions.AddCommand:
		found := files(step.SourcesAndDest)
		found["chown"], found["chmod"], found["link"], found["exclude"] = step.Chown, step.Chmod, step.Link, list(step.ExcludePatterns)
		found["checksum"], found["keep_git_dir"] = step.Checksum, step.KeepGitDir != nil && *step.KeepGitDir
		found["unpack"] = step.Unpack
		return found
	case *instructions.CopyCommand:
		found := files(step.SourcesAndDest)
		found["chown"], found["chmod"], found["link"], found["exclude"] = step.Chown, step.Chmod, step.Link, list(step.ExcludePatterns)
		found["origin"], found["parents"] = step.From, step.Parents
		return found
	case *instructions.OnbuildCommand:
		return object{"trigger": step.Expression}
	case *instructions.WorkdirCommand:
		return object{"path": step.Path}
	case *instructions.RunCommand:
		return run(step)
	case *instructions.CmdCommand:
		return object{"args": list(step.CmdLine), "shell": step.PrependShell}
	case *instructions.EntrypointCommand:
		return object{"args": list(step.CmdLine), "shell": step.PrependShell}
	case *instructions.HealthCheckCommand:
		check := step.Health
		return object{
			"test": list(check.Test), "interval": check.Interval, "timeout": check.Timeout, "start_period": check.StartPeriod,
			"start_interval": check.StartInterval, "retries": check.Retries,
		}
	case *instructions.ExposeCommand:
		return object{"ports": list(step.Ports)}
	case *instructions.UserCommand:
		return object{"user": step.User}
	case *instructions.VolumeCommand:
		return object{"paths": list(step.Volumes)}
	case *instructions.StopSignalCommand:
		return object{"signal": step.Signal}
	case *instructions.ShellCommand:
		return object{"args": list(step.Shell)}
	}
	return object{"unknown": fmt.Sprintf("%T", step)}
}

// run gives the command that is executed, with here-documents put where BuildKit puts them.
func run(step *instructions.RunCommand) object {
	args := list(step.CmdLine)
	documents := []object{}
	for _, file := range step.Files {
		content := file.Data
		if file.Chomp {
			content = parser.ChompHeredocContent(content)
		}
		documents = append(documents, object{"name": file.Name, "content": content, "chomp": file.Chomp})
	}
	if len(documents) > 0 && step.PrependShell {
		if parser.MustParseHeredoc(args[0]) != nil {
			args = []string{documents[0]["content"].(string)}
		} else {
			for _, document := range documents {
				args[0] += "\n" + document["content"].(string) + document["name"].(string)
			}
		}
	}
	found := object{"args": args, "shell": step.PrependShell, "documents": documents}
	found["network"], found["security"] = instructions.GetNetwork(step), instructions.GetSecurity(step)
	_ = step.Expand(func(word string) (string, error) { return word, nil })
	mounts := []object{}
	for _, mount := range instructions.GetMounts(step) {
		mounts = append(mounts, object{
			"kind": mount.Type, "origin": mount.From, "source": mount.Source, "target": mount.Target, "readonly": mount.ReadOnly,
			"size": mount.SizeLimit, "id": mount.CacheID, "sharing": mount.CacheSharing, "required": mount.Required,
			"mode": mount.Mode, "uid": mount.UID, "gid": mount.GID, "env": mount.Env,
		})
	}
	found["mounts"] = mounts
	return found
}

func files(given instructions.SourcesAndDest) object {
	documents := []object{}
	for _, document := range given.SourceContents {
		documents = append(documents, object{"name": document.Path, "content": document.Data, "expand": document.Expand})
	}
	return object{"sources": list(given.SourcePaths), "target": given.DestPath, "documents": documents}
}

func pairs(given instructions.KeyValuePairs) [][]string {
	found := [][]string{}
	for _, pair := range given {
		found = append(found, []string{pair.Key, pair.Value})
	}
	return found
}

func list(words []string) []string {
	return append([]string{}, words...)
}
